"""Three control planes and more, as one mesh: loading, losing nodes and links, and changes of leader."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.messages import LoadRequest
from peerinfer.control.state import InstanceState
from tests.control.cluster import GB, MODEL, Cluster, node_id

READY = InstanceState.READY


def loaded(count: int = 3, seed: int = 0, **wishes: object) -> Cluster:
    cluster = Cluster(count, seed)
    cluster.run(2)
    request = cluster.load(count, **{"min_nodes": count} | wishes)
    cluster.run(3)
    answer = cluster.answer(count, request)
    assert answer is not None
    assert answer.code == ""
    return cluster


def nodes_of(cluster: Cluster) -> list[str]:
    return [stage.node for stage in cluster.only().stages]


def test_the_lowest_node_leads_and_all_follow_it_under_one_ballot() -> None:
    cluster = Cluster(3)
    cluster.run(2)
    assert {node.plane.election.leader for node in cluster.nodes.values()} == {node_id(1)}
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
    cluster.run(2)
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
    cluster.run(2)
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
    cluster.run(2)
    request = cluster.load(2)
    cluster.run(1)
    answer = cluster.answer(2, request)
    assert answer is not None
    assert answer.code == "no_placement"
    assert "300 MB are short" in answer.reason
    assert cluster.views() == [(), (), ()]


def test_a_node_with_another_file_of_that_name_is_left_out_and_named() -> None:
    cluster = Cluster(3)
    cluster.tell(2, models=(replace(MODEL, digest="e" * 64),))
    cluster.run(2)
    request = cluster.load(1, min_nodes=3)
    cluster.run(1)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == "no_placement"
    assert "n2 has another file under the name tiny (digest eeeeeeeeeeee, not dddddddddddd)" in answer.reason


def test_an_engine_that_fails_to_load_fails_the_instance_and_frees_the_rest() -> None:
    cluster = Cluster(3)
    cluster.run(2)
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


def test_a_stage_that_dies_is_started_again_once() -> None:
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


def test_loading_without_progress_fails_in_the_end() -> None:
    cluster = Cluster(2)
    cluster.node(2).keeper.loads_in_s = 1e9
    cluster.run(2)
    request = cluster.load(1, min_nodes=2)
    cluster.run(610)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert "no progress for 10 minutes" in answer.reason
    assert all(not node.keeper.stages for node in cluster.nodes.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_worker_s_stages_go_to_those_who_are_left(seed: int) -> None:
    cluster = loaded(seed=seed)
    before = cluster.only()
    cluster.kill(2)
    cluster.run(5)
    assert cluster.only() == before, "a short silence moves nothing"
    cluster.run(10)
    after = cluster.only()
    assert (after.id, after.state, after.context) == (before.id, READY, before.context)
    assert set(nodes_of(cluster)) == {node_id(1), node_id(3)}
    assert after.epoch > before.epoch


def test_what_no_longer_fits_fails_with_a_sentence() -> None:
    cluster = Cluster(3, memory_bytes=GB * 5 // 4)
    cluster.run(2)
    cluster.load(1, min_nodes=3)
    cluster.run(3)
    cluster.kill(3)
    cluster.run(15)
    instance = cluster.only()
    assert instance.state is InstanceState.FAILED
    assert "n3, which held a stage of it, is gone. It could not be placed again" in instance.reason
    assert all(not cluster.node(number).keeper.stages for number in (1, 2))


@pytest.mark.parametrize("seed", range(5))
def test_the_next_leader_keeps_what_runs_and_places_again_what_broke(seed: int) -> None:
    cluster = loaded(seed=seed, min_nodes=2)
    before = cluster.only()
    assert set(nodes_of(cluster)) == {node_id(3), node_id(1)}
    cluster.kill(1)
    cluster.run(20)
    assert cluster.node(3).plane.election.leader == node_id(2)
    after = cluster.only()
    assert (after.id, after.state) == (before.id, READY)
    assert set(nodes_of(cluster)) <= {node_id(2), node_id(3)}


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_dies_takes_no_instance_with_it(seed: int) -> None:
    cluster = loaded(seed=seed, min_nodes=1)
    before = cluster.only()
    assert nodes_of(cluster) == [node_id(3)]
    starts = cluster.node(3).keeper.starts
    cluster.kill(1)
    cluster.run(20)
    assert cluster.only() == before
    cluster.restart(1)
    cluster.run(20)
    assert cluster.node(2).plane.election.leader == node_id(1)
    assert cluster.only() == before, "the old leader came back, empty, and adopted it"
    assert cluster.node(3).keeper.starts == starts


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_restarted_at_once_places_again_the_stage_that_it_lost(seed: int) -> None:
    cluster = loaded(seed=seed)
    before = cluster.only()
    cluster.kill(1)
    cluster.run(1)
    cluster.restart(1)
    cluster.run(20)
    after = cluster.only()
    assert (after.id, after.state) == (before.id, READY)
    assert after.epoch != before.epoch


def test_what_was_unloaded_does_not_come_back_with_an_old_list() -> None:
    cluster = loaded()
    cluster.cut = {frozenset((node_id(3), node_id(1))), frozenset((node_id(3), node_id(2)))}
    cluster.run(1)
    cluster.unload(1)
    cluster.run(1)
    cluster.kill(1)
    cluster.restart(1)  # it forgot that it unloaded; node 3 still has the old list, and its stage
    cluster.cut = set()
    cluster.run(40)
    views = cluster.views()
    assert all(view == views[0] for view in views)
    held = {key for node in cluster.nodes.values() for key in node.keeper.stages}
    assert held == {(one.id, one.epoch) for one in views[0]}


def test_a_request_outlives_the_leader_that_had_it() -> None:
    cluster = Cluster(3)
    cluster.run(2)
    cluster.node(3).keeper.loads_in_s = 30.0
    request = cluster.load(3)
    cluster.run(2)
    cluster.kill(1)
    cluster.run(40)
    answer = cluster.answer(3, request)
    assert answer is not None
    assert answer.code == ""
    assert cluster.only().state is READY


@pytest.mark.parametrize("cut_at_s", [0.0, 0.5, 1.0, 1.5])
def test_what_a_broken_link_swallowed_is_said_again(cut_at_s: float) -> None:
    cluster = Cluster(3)
    cluster.run(2)
    links = {frozenset((node_id(1), node_id(2))), frozenset((node_id(1), node_id(3)))}
    if cut_at_s == 0.0:
        cluster.cut = links
    request = cluster.load(1, min_nodes=3)
    cluster.run(cut_at_s)
    cluster.cut = links
    cluster.run(1.5)
    cluster.cut = set()
    cluster.run(5)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""
    assert cluster.only().state is READY


def test_a_follower_that_did_not_follow_yet_gets_command_and_list_later() -> None:
    cluster = Cluster(3)
    cluster.run(2)
    cluster.kill(1)
    cluster.run(9)
    cluster.restart(1)
    cluster.step()
    request = cluster.load(1, min_nodes=3)
    cluster.run(8)
    answer = cluster.answer(1, request)
    assert answer is not None
    assert answer.code == ""
    assert cluster.only().state is READY


def test_with_too_many_who_wait_the_next_is_told_so() -> None:
    cluster = Cluster(2)
    cluster.run(2)
    for keeper in (cluster.node(1).keeper, cluster.node(2).keeper):
        keeper.loads_in_s = 60.0
    requests = [(1 + number % 2, cluster.load(1 + number % 2)) for number in range(65)]
    cluster.run(1)
    refused = [answer for asker, request in requests if (answer := cluster.answer(asker, request))]
    assert [answer.code for answer in refused] == ["queue_full"]


def test_at_most_sixteen_instances_are_loaded() -> None:
    cluster = Cluster(1, memory_bytes=1000 * GB)
    models = tuple(replace(MODEL, name=f"m{n}", digest=f"{n:064x}") for n in range(17))
    cluster.tell(1, models=models)
    cluster.run(2)
    for number, model in enumerate(models):
        cluster.ask(1, LoadRequest(str(number), model.name, model.digest, 0, 0, "latency", 1))
    cluster.run(3)
    codes = [answer.code for answer in cluster.node(1).answers.values()]
    assert codes.count("") == 16
    assert codes.count("no_placement") == 1


@pytest.mark.parametrize("seed", range(25))
def test_after_any_trouble_all_agree_and_hold_what_the_list_says(seed: int) -> None:
    cluster = Cluster(4, seed)
    cluster.run(2)
    for _ in range(12):
        trouble(cluster)
        cluster.run(cluster.chance.choice([0.5, 2, 5, 13]))
    cluster.cut = set()
    for number in range(1, 5):
        if node_id(number) in cluster.dead:
            cluster.restart(number)
    cluster.run(60)
    views = cluster.views()
    assert all(view == views[0] for view in views)
    assert {node.plane.election.leader for node in cluster.nodes.values()} == {node_id(1)}
    wanted = {
        (one.id, one.epoch, number, stage.node)
        for one in views[0]
        if one.state is not InstanceState.FAILED
        for number, stage in enumerate(one.stages)
    }
    held = {
        (stage.instance, stage.epoch, stage.stage, node.id)
        for node in cluster.nodes.values()
        for stage in node.keeper.held()
    }
    assert held == wanted
    assert all(one.state in (READY, InstanceState.FAILED) for one in views[0])


def trouble(cluster: Cluster) -> None:
    """Something happens to the mesh, by chance."""
    chance = cluster.chance
    alive = [number for number in range(1, 5) if node_id(number) not in cluster.dead]
    match chance.randrange(6):
        case 0 if len(alive) > 1:
            cluster.kill(chance.choice(alive))
        case 1 if cluster.dead:
            cluster.restart(int(chance.choice(sorted(cluster.dead)), 16))
        case 2:
            pair = chance.sample(range(1, 5), 2)
            cluster.cut ^= {frozenset(map(node_id, pair))}
        case 3:
            cluster.unload(chance.choice(alive))
        case _:
            cluster.load(chance.choice(alive), min_nodes=chance.randrange(4), slots=chance.choice([1, 2]))
