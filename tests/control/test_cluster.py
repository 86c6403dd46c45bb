"""Three control planes and more, as one mesh: loading, losing nodes and links, and changes of leader."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.placements import RETRY_S, SOUND_AFTER_S
from peerinfer.control.state import InstanceState
from tests.control.cluster import GB, MODEL, SETTLED_S, Cluster, loaded, node_id, nodes_of

READY = InstanceState.READY


def test_one_node_leads_and_all_follow_it_under_one_ballot() -> None:
    cluster = Cluster(3)
    cluster.run(SETTLED_S)
    assert cluster.leader() in (1, 2, 3)
    assert len({node.plane.election.ballot for node in cluster.nodes.values()}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_follower_loads_a_model_over_three_nodes(seed: int) -> None:
    cluster = loaded(seed=seed)
    instance = cluster.only()
    assert instance.state is READY
    assert [(stage.first_layer, stage.last_layer) for stage in instance.stages] == [(0, 10), (10, 20), (20, 30)]
    assert instance.stages[0].node == node_id(3), "the ring begins where the model was asked for"
    assert all(node.keeper.starts == 1 for node in cluster.nodes.values())


def test_one_node_that_holds_all_wins() -> None:
    cluster = loaded(min_nodes=1)
    assert nodes_of(cluster) == [node_id(3)]


def test_the_same_wishes_give_the_same_instance() -> None:
    cluster = loaded()
    before = cluster.only()
    request = cluster.load(2, min_nodes=3)
    cluster.run(1)
    answer = cluster.answer(2, request)
    assert answer is not None
    assert (answer.code, answer.instance) == ("", before.id)
    assert cluster.only() == before


def test_many_who_ask_at_once_get_one_instance() -> None:
    cluster = Cluster(3)
    cluster.run(SETTLED_S)
    requests = [(asker, cluster.load(asker)) for asker in (1, 2, 3)]
    cluster.run(3)
    answers = [cluster.answer(asker, request) for asker, request in requests]
    assert {answer.instance for answer in answers if answer} == {cluster.only().id}
    assert sum(node.keeper.starts for node in cluster.nodes.values()) == 1


def test_other_wishes_replace_an_instance_once_the_new_one_is_ready() -> None:
    cluster = loaded()
    old = cluster.only()
    cluster.load(1, min_nodes=2)
    cluster.run(0.5)
    assert [one.state for one in cluster.views()[0]] == [READY, InstanceState.LOADING]
    cluster.run(2)
    assert [one.state for one in cluster.views()[0]] == [InstanceState.DRAINING, READY]
    cluster.run(12)
    assert cluster.only().id != old.id
    assert sum(len(node.keeper.stages) for node in cluster.nodes.values()) == 2


def test_other_wishes_drop_the_old_instance_first_where_memory_is_short() -> None:
    cluster = Cluster(2, memory_bytes=2 * GB)
    cluster.run(SETTLED_S)
    cluster.load(1, min_nodes=2)
    cluster.run(3)
    old = cluster.only()
    request = cluster.load(1, min_nodes=2, slots=2)
    cluster.run(0.25)
    assert cluster.only().state is InstanceState.LOADING
    cluster.run(3)
    assert cluster.only().id != old.id
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""


def test_a_chat_takes_whatever_instance_there_is() -> None:
    cluster = loaded()
    before = cluster.only()
    request = cluster.load(1, min_nodes=0, context=0, slots=0)
    cluster.run(1)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.instance == before.id


def test_unload_frees_every_stage() -> None:
    cluster = loaded()
    done = cluster.unload(2)
    cluster.run(1)
    assert cluster.views() == [(), (), ()]
    assert all(not node.keeper.stages for node in cluster.nodes.values())
    again = cluster.unload(2)
    cluster.run(1)
    first, second = cluster.answer(2, done), cluster.answer(2, again)
    assert first is not None
    assert second is not None
    assert (first.code, second.code) == ("", "model_not_found")


def test_what_does_not_fit_is_refused_with_a_sentence() -> None:
    cluster = Cluster(3, memory_bytes=GB)
    cluster.run(SETTLED_S)
    request = cluster.load(2)
    cluster.run(1)
    answer = cluster.answer(2, request)
    assert answer is not None
    assert answer.code == "no_placement"
    assert "600 MB are short" in answer.reason
    assert cluster.views() == [(), (), ()]


def test_a_node_without_the_file_or_with_another_of_its_name_takes_part_and_fetches() -> None:
    cluster = Cluster(3)
    cluster.tell(2, models=(replace(MODEL, digest="e" * 64),))
    cluster.tell(3, models=())
    cluster.run(SETTLED_S)
    request = cluster.load(1, min_nodes=3)
    cluster.run(4)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""
    assert len(cluster.only().stages) == 3


def test_a_model_that_the_nodes_do_not_have_together_is_not_placed() -> None:
    cluster = Cluster(3)
    halves = (replace(MODEL, tensors=10, held=((0, 4),)), replace(MODEL, tensors=10, held=((3, 5), (6, 10))))
    for number in (1, 2, 3):
        cluster.tell(number, models=halves[number % 2 : number % 2 + 1])
    cluster.run(SETTLED_S)
    request = cluster.load(1)
    cluster.run(1)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == "no_placement"
    assert "do not have all of tiny together" in answer.reason
    cluster.tell(3, models=(replace(MODEL, tensors=10, held=((4, 10),)),))
    cluster.run(1)
    request = cluster.load(1)
    cluster.run(4)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""


def test_a_model_whose_only_whole_copy_is_switched_off_is_placed_from_the_parts_of_the_others() -> None:
    cluster = Cluster(3)
    halves = (replace(MODEL, tensors=10, held=((0, 5),)), replace(MODEL, tensors=10, held=((5, 10),)))
    cluster.tell(2, models=halves[:1])
    cluster.tell(3, models=halves[1:])
    cluster.run(SETTLED_S)
    cluster.kill(1)
    cluster.run(SETTLED_S * 3)
    request = cluster.load(2, min_nodes=2)
    cluster.run(4)
    answer = cluster.answer(2, request)
    assert answer is not None
    assert answer.code == ""


def test_a_node_that_must_fetch_needs_room_on_its_disk() -> None:
    cluster = Cluster(2)
    cluster.tell(2, models=(), disk_free_bytes=100)
    cluster.run(SETTLED_S)
    request = cluster.load(1, min_nodes=2)
    cluster.run(1)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == "no_placement"
    assert "n2 has 0 MB free on its disk for what it must fetch" in answer.reason


def test_what_lies_on_a_disk_already_needs_no_more_room_and_the_cache_needs_none() -> None:
    cluster = Cluster(2, memory_bytes=4 * GB)
    cluster.tell(2, models=(replace(MODEL, tensors=10, held=((0, 10),)),), disk_free_bytes=0)
    cluster.run(SETTLED_S)
    request = cluster.load(1, min_nodes=2)
    cluster.run(4)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""
    cluster.unload(1)
    half = replace(MODEL, tensors=10, held=((0, 5),))
    cluster.tell(2, models=(half,), disk_free_bytes=0)
    cluster.run(2)
    request = cluster.load(1, min_nodes=2)
    cluster.run(4)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""


def test_an_engine_that_fails_to_load_fails_the_instance_and_frees_the_rest() -> None:
    cluster = Cluster(3)
    cluster.run(SETTLED_S)
    cluster.node(2).keeper.fails = "The file is corrupt."
    request = cluster.load(3, min_nodes=3)
    cluster.run(4)
    answer = cluster.answer(3, request)
    assert answer is not None
    assert answer.code == "engine_error"
    assert "on n2 failed. The file is corrupt." in answer.reason
    assert cluster.only().state is InstanceState.FAILED
    assert all(not node.keeper.stages for node in cluster.nodes.values())
    cluster.node(2).keeper.fails = ""
    cluster.load(3, min_nodes=3)
    cluster.run(4)
    assert cluster.only().state is READY


def test_a_stage_that_dies_is_started_again_at_once_and_then_after_longer_and_longer() -> None:
    cluster = loaded()
    before = cluster.only()
    cluster.report(2, before, "failed", "Its process ended.")
    cluster.run(3)
    after = cluster.only()
    assert (after.id, after.state) == (before.id, READY)
    assert after.epoch > before.epoch
    assert len(after.stages) == 3
    cluster.report(2, after, "failed", "Its process ended.")
    cluster.run(3)
    assert cluster.only().state is InstanceState.FAILED
    assert "Its process ended." in cluster.only().reason
    cluster.run(RETRY_S * 2 + 3)
    assert cluster.only().state is READY
    cluster.run(SOUND_AFTER_S)
    cluster.report(2, cluster.only(), "failed", "Its process ended.")
    cluster.run(3)
    assert cluster.only().state is READY, "it had been sound for a while"


def test_loading_without_progress_fails_in_the_end() -> None:
    cluster = Cluster(2)
    cluster.node(2).keeper.loads_in_s = 1e9
    cluster.run(SETTLED_S)
    request = cluster.load(1, min_nodes=2)
    cluster.run(610)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert "no progress for 10 minutes" in answer.reason
    assert all(not node.keeper.stages for node in cluster.nodes.values())


def test_what_is_left_open_takes_what_fits() -> None:
    hungry = replace(MODEL, kv_bytes=12_000)  # 4 × 4096 tokens take 5.9 GB besides 3 GB of weights
    cluster = Cluster(1, memory_bytes=7 * GB)
    cluster.tell(1, models=(hungry,))
    cluster.run(SETTLED_S)
    request = cluster.load(1, context=0, slots=0)
    cluster.run(3)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""
    assert (cluster.only().context, cluster.only().slots) == (4096, 2)
    again = cluster.load(1, context=0, slots=0)
    cluster.run(3)
    assert cluster.answer(1, again) == replace(answer, request_id=again)
    refused = cluster.load(1, context=4096, slots=4)
    cluster.run(6)
    told = cluster.answer(1, refused)
    assert told is not None
    assert "are short" in told.reason
