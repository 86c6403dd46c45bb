"""What a plan chooses in a home: solo when that is faster, no weak node, good links, a place for the head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.placement import greedy
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Compute, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room
from peerinfer.placement.rule import by_rule
from peerinfer.placement.service import Planner

GB = 10**9
MODEL = ModelNumbers(40, GB // 2, 0, 0, 0, None, 8192)
LAN = LinkNumbers("", "", 500.0, 1e8)


def node(name: str, memory: float, layer_us: float, *, head_us: float = 0.0) -> NodeNumbers:
    return NodeNumbers(name, name.upper(), (Compute(int(memory * GB), layer_us, head_us),))


def mesh(*nodes: NodeNumbers, model: ModelNumbers = MODEL, policy: str = "latency", first: str = "") -> Problem:
    return Problem(model, Room(1, 1), nodes, default_link=LAN, policy=policy, first=first)


async def both(problem: Problem) -> list[Plan]:
    """The greedy plan and the best one, by the real child."""
    planner = Planner()
    try:
        return [greedy.place(problem), await planner.solve(problem, 30.0)]
    finally:
        await planner.stop()


def names(plan: Plan) -> list[str]:
    return [stage.node for stage in plan.stages]


async def test_one_node_that_holds_all_beats_two_where_the_second_is_hardly_faster() -> None:
    for plan in await both(mesh(node("big", 24, 900), node("quick", 12, 880))):
        assert names(plan) == ["big"]


async def test_two_beat_one_where_the_second_is_much_faster() -> None:
    for plan in await both(mesh(node("big", 24, 900), node("gpu", 16, 90))):
        assert set(names(plan)) == {"big", "gpu"}


async def test_a_weak_node_that_slows_the_chain_is_left_out() -> None:
    nodes = (node("a", 12, 300), node("b", 12, 300), node("weak", 12, 5000))
    for policy in ("latency", "throughput"):
        for plan in await both(mesh(*nodes, policy=policy)):
            assert set(names(plan)) == {"a", "b"}


async def test_neighbours_are_those_with_good_links() -> None:
    nodes = tuple(node(name, 5.5, 300) for name in "abcd")
    ring = ("ac", "cb", "bd", "da")
    links = tuple(LinkNumbers(a, b, 300.0 if a + b in ring else 20_000.0) for a in "abcd" for b in "abcd" if a != b)
    for plan in await both(replace(mesh(*nodes), links=links)):
        chain = names(plan)
        assert all(a + b in ring for a, b in zip(chain, chain[1:] + chain[:1], strict=True))


async def test_nodes_without_a_link_are_no_neighbours() -> None:
    nodes = tuple(node(name, 8, 300) for name in "abc")
    ring = ("ab", "bc", "ca")
    links = tuple(LinkNumbers(pair[0], pair[1], 300.0) for pair in ring)
    for plan in await both(replace(mesh(*nodes), links=links, default_link=None)):
        chain = names(plan)
        assert all(a + b in ring for a, b in zip(chain, chain[1:] + chain[:1], strict=True))


async def test_a_heavy_head_goes_where_it_is_quick_and_has_room() -> None:
    heavy = replace(MODEL, head_bytes=4 * GB)
    nodes = (node("a", 12, 300, head_us=9000), node("b", 16, 320, head_us=1000), node("c", 5, 100, head_us=10))
    for plan in await both(mesh(*nodes, model=heavy)):
        assert names(plan)[-1] == "b"


def test_equal_nodes_need_no_solver() -> None:
    nodes = tuple(node(name, 11, 300) for name in "abcd")
    for policy, count in (("latency", 2), ("throughput", 4), ("spread", 4)):
        problem = mesh(*nodes, policy=policy, first="c")
        plan = by_rule(problem, greedy.find(problem))
        assert plan is not None
        assert (plan.solver, plan.is_optimal, len(plan.stages), names(plan)[0]) == ("rule", True, count, "c")
        sizes = {stage.last_layer - stage.first_layer for stage in plan.stages}
        assert sizes == {40 // count}


def test_a_node_beyond_any_rival_needs_no_solver() -> None:
    problem = mesh(node("best", 24, 100), node("b", 24, 200), node("c", 12, 150))
    plan = by_rule(problem, greedy.find(problem))
    assert plan is not None
    assert (plan.solver, plan.is_optimal, names(plan)) == ("rule", True, ["best"])


def test_unlike_nodes_without_a_clear_winner_do() -> None:
    problem = mesh(node("big", 24, 200), node("b", 12, 100))
    assert by_rule(problem, greedy.find(problem)) is None


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_equal_plans_always_the_same_is_taken(first: str) -> None:
    nodes = (node("a", 11, 300), node("b", 11, 300), node("c", 11, 301))
    plans = [greedy.place(mesh(*order, first=first)) for order in (nodes, nodes[::-1])]
    assert plans[0] == plans[1]
    assert names(plans[0])[0] == first


def test_of_equal_nodes_one_that_has_the_weights_is_taken() -> None:
    problem = replace(mesh(node("a", 24, 300), node("b", 24, 300), first="a"), holders=("b",))
    assert names(greedy.place(problem)) == ["b"]
