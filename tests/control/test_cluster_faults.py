"""The simulated mesh under faults: lost workers and leaders, broken links, and what must hold afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.messages import LoadRequest
from peerinfer.control.state import InstanceState
from tests.control.cluster import GB, MODEL, SETTLED_S, Cluster, loaded, node_id, nodes_of

READY = InstanceState.READY


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_worker_s_stages_go_to_those_who_are_left(seed: int) -> None:
    cluster = loaded(seed=seed)
    before = cluster.only()
    lost = cluster.followers()[0]
    cluster.kill(lost)
    cluster.run(5)
    assert cluster.only() == before, "a short silence moves nothing"
    cluster.run(10)
    after = cluster.only()
    assert (after.id, after.state, after.context) == (before.id, READY, before.context)
    assert set(nodes_of(cluster)) == {node_id(1), node_id(2), node_id(3)} - {node_id(lost)}
    assert after.epoch > before.epoch


def test_what_no_longer_fits_fails_with_a_sentence() -> None:
    cluster = Cluster(3, memory_bytes=GB * 5 // 4)
    cluster.run(SETTLED_S)
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
    leader = cluster.leader()
    is_in_ring = node_id(leader) in nodes_of(cluster)
    cluster.kill(leader)
    cluster.run(25)
    assert cluster.leader() != leader
    after = cluster.only()
    assert (after.id, after.state) == (before.id, READY)
    assert (after.epoch != before.epoch) == is_in_ring
    assert node_id(leader) not in nodes_of(cluster)


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_that_dies_takes_no_instance_with_it(seed: int) -> None:
    cluster = loaded(seed=seed, min_nodes=1)
    (holder,) = nodes_of(cluster)
    keeper = cluster.nodes[holder].keeper
    if cluster.leader() == int(holder, 16):
        cluster.do(cluster.leader(), cluster.nodes[holder].plane.release(cluster.now))
        cluster.run(8)
    before, starts, leader = cluster.only(), keeper.starts, cluster.leader()
    assert leader != int(holder, 16)
    cluster.kill(leader)
    cluster.run(20)
    assert cluster.only() == before
    cluster.restart(leader)
    cluster.run(20)
    assert cluster.only() == before, "the old leader came back, empty"
    assert keeper.starts == starts


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_restarted_at_once_places_again_the_stage_that_it_lost(seed: int) -> None:
    cluster = loaded(seed=seed)
    before = cluster.only()
    leader = cluster.leader()
    cluster.kill(leader)
    cluster.run(1)
    cluster.restart(leader)
    cluster.run(30)
    after = cluster.only()
    assert (after.id, after.state) == (before.id, READY)
    assert after.epoch != before.epoch
    assert len(after.stages) == 3


def test_what_was_unloaded_does_not_come_back_with_an_old_holding() -> None:
    cluster = loaded()
    leader = cluster.leader()
    away, near = cluster.followers()
    cluster.cut = {frozenset((node_id(away), node_id(leader))), frozenset((node_id(away), node_id(near)))}
    cluster.run(1)
    cluster.unload(leader)
    cluster.run(1)
    cluster.kill(leader)
    cluster.restart(leader)
    cluster.cut = set()
    cluster.run(40)
    assert cluster.views() == [(), (), ()]
    assert all(not node.keeper.stages for node in cluster.nodes.values())


def test_a_load_that_was_acknowledged_survives_the_death_of_all() -> None:
    cluster = loaded()
    before = cluster.only()
    for number in (1, 2, 3):
        cluster.kill(number)
    for number in (1, 2, 3):
        cluster.restart(number)
    cluster.run(30)
    after = cluster.only()
    assert (after.id, after.state, len(after.stages)) == (before.id, READY, 3)
    assert after.epoch != before.epoch


def test_a_request_outlives_the_leader_that_had_it() -> None:
    cluster = Cluster(3)
    cluster.run(SETTLED_S)
    leader = cluster.leader()
    asker = cluster.followers()[0]
    cluster.node(asker).keeper.loads_in_s = 30.0
    request = cluster.load(asker)
    cluster.run(2)
    cluster.kill(leader)
    cluster.run(45)
    answer = cluster.answer(asker, request)
    assert answer is not None
    assert answer.code == ""
    assert cluster.only().state is READY


@pytest.mark.parametrize("cut_at_s", [0.0, 0.5, 1.0, 1.5])
def test_what_a_broken_link_swallowed_is_said_again(cut_at_s: float) -> None:
    cluster = Cluster(3)
    cluster.run(SETTLED_S)
    leader = cluster.leader()
    links = {frozenset((node_id(leader), node_id(other))) for other in cluster.followers()}
    if cut_at_s == 0.0:
        cluster.cut = links
    request = cluster.load(leader, min_nodes=3)
    cluster.run(cut_at_s)
    cluster.cut = links
    cluster.run(1.5)
    cluster.cut = set()
    cluster.run(8)
    answer = cluster.answer(leader, request)
    assert answer is not None
    assert answer.code == ""
    assert cluster.only().state is READY


def test_a_load_right_after_a_node_came_back_waits_until_it_follows() -> None:
    cluster = Cluster(3)
    cluster.run(SETTLED_S)
    leader, back = cluster.leader(), cluster.followers()[0]
    cluster.kill(back)
    cluster.run(9)
    cluster.restart(back)
    cluster.step()
    request = cluster.load(leader, min_nodes=3)
    cluster.run(8)
    answer = next(node.answers[request] for node in cluster.nodes.values() if request in node.answers)
    assert answer.code == ""
    assert len(cluster.only().stages) == 3


def test_with_too_many_who_wait_the_next_is_told_so() -> None:
    cluster = Cluster(2)
    cluster.run(SETTLED_S)
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
    cluster.run(SETTLED_S)
    for number, model in enumerate(models):
        cluster.ask(1, LoadRequest(str(number), model.name, model.digest, 0, 0, "latency", 1))
    cluster.run(3)
    codes = [answer.code for answer in cluster.node(1).answers.values()]
    assert codes.count("") == 16
    assert codes.count("no_placement") == 1


@pytest.mark.parametrize("seed", range(25))
def test_after_any_trouble_all_agree_and_hold_what_the_list_says(seed: int) -> None:
    cluster = Cluster(4, seed)
    cluster.run(SETTLED_S)
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
    assert cluster.leader() in (1, 2, 3, 4)
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
