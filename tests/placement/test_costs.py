"""One cost model: tables, single costs and the oracle's own functions mean the same; chains are cut exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_clusters import small_cluster

from peerinfer.placement import costs
from peerinfer.placement.chains import chains, settled
from peerinfer.placement.plan import PlacedStage
from peerinfer.placement.problem import POLICIES, Compute, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room
from peerinfer.placement.ranking import plan_of
from peerinfer.placement.tables import tabulate
from tests.placement.oracle import stage_time, value_of

ENDS = ((False, False), (True, False), (False, True), (True, True))
seeds = st.integers(0, 10_000)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_tables_say_what_single_costs_and_the_oracle_say(seed: int) -> None:
    problem = small_cluster(seed, "latency")
    tables = tabulate(problem)
    for kind, number, layers in product(range(4), range(len(tables.nodes)), range(1, problem.model.layers + 1)):
        node, (is_first, is_last) = tables.nodes[number], ENDS[kind]
        cost = costs.stage_cost(problem.model, problem.room, node, layers, is_first=is_first, is_last=is_last)
        told = math.inf if cost is None else cost.us
        assert tables.us[kind, number, layers] == pytest.approx(told, rel=1e-12)
        assert told == pytest.approx(stage_time(problem, node, layers, is_first=is_first, is_last=is_last), rel=1e-9)
        share = math.inf if cost is None else cost.memory_bytes / node.memory_bytes
        assert tables.share[kind, number, layers] == pytest.approx(share)


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from(POLICIES))
def test_an_order_is_cut_as_well_as_by_trying_all_cuts(seed: int, policy: str) -> None:
    problem = replace(small_cluster(seed, policy), min_nodes=1)
    tables = tabulate(problem)
    exact = chains(tables, tables.cuts)
    for order in [*permutations(range(len(tables.nodes)), 2), *permutations(range(len(tables.nodes)), 3)][:30]:
        names = [tables.nodes[number].node for number in order]
        tried = [
            value_of(problem, [(name, a, b) for name, (a, b) in zip(names, pairwise(ends), strict=True)])
            for inner in combinations(problem.model.cuts()[1:-1], len(order) - 1)
            if (ends := (0, *inner, problem.model.layers))
        ]
        best = min(tried, default=math.inf)
        assert exact.value(order) == pytest.approx(best, rel=1e-9, abs=1e-4)
        ends = settled(tables, order)
        assert bool(ends) == (best < math.inf)
        if ends:
            plan = plan_of(problem, names, ends, "greedy")
            assert plan is not None
            stages = [(stage.node, stage.first_layer, stage.last_layer) for stage in plan.stages]
            assert value_of(problem, stages) == pytest.approx(best, rel=1e-6)


MODEL = ModelNumbers(10, 100, 50, 80, 0, None, 1000)
FAST = NodeNumbers("fast", "FAST", (Compute(400, 10.0, 20.0, 1.0), Compute(900, 50.0, 90.0, 2.0)), stage_us=5.0)
PLAIN = NodeNumbers("plain", "PLAIN", (Compute(2000, 30.0, 60.0),), stage_us=7.0, stage_bytes=10)
WIRES = (LinkNumbers("fast", "plain", 100.0, 1e7), LinkNumbers("plain", "fast", 300.0, 1e6))


def problem_of(policy: str = "latency") -> Problem:
    return Problem(MODEL, Room(1, 1), (FAST, PLAIN), WIRES, policy=policy)


def test_a_ring_takes_its_stages_its_hops_and_the_latency_of_the_way_back() -> None:
    plan = plan_of(problem_of(), ["fast", "plain"], [6, 10], "greedy")
    assert plan is not None
    # 4 layers on the GPU and 2 on the host; 4 layers and the head; 100 µs and 1000 bytes at 10 MB/s; 300 µs back.
    assert [part.us for part in plan.predicted.parts] == [5 + 40 + 100, 200, 7 + 120 + 60, 300]
    assert plan.predicted.token_us == 145 + 200 + 187 + 300
    assert plan.predicted.pace_us == 200
    assert plan.predicted.bottleneck.us == 300
    assert plan.predicted.tokens_per_s == pytest.approx(1e6 / 832)
    assert [stage.accelerated for stage in plan.stages] == [4, 0]
    assert plan.predicted.ttft_us is None  # nobody knows the prefill of `plain`


def test_under_throughput_the_slowest_part_counts_and_the_way_back_does_not() -> None:
    plan = plan_of(problem_of("throughput"), ["fast", "plain"], [6, 10], "greedy")
    assert plan is not None
    assert plan.predicted.tokens_per_s == pytest.approx(1e6 / 200)


def test_the_head_goes_to_the_device_where_the_whole_is_quickest() -> None:
    last = costs.stage_cost(MODEL, Room(1, 1), FAST, 4, is_first=False, is_last=True)
    assert last is not None
    assert last.us == 5 + min(20 + 3 * 10 + 50, 90 + 4 * 10)  # on the GPU it takes the place of a layer


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "no stage"),
        ([("plain", 0, 4), ("plain", 4, 10)], "twice"),
        ([("stranger", 0, 10)], "unknown"),
        ([("plain", 0, 4), ("fast", 5, 10)], "begins or ends"),
        ([("plain", 0, 9)], "left over"),
        ([("fast", 0, 13)], "begins or ends"),
        ([("plain", 0, 0), ("fast", 0, 10)], "begins or ends"),
    ],
)
def test_what_is_no_plan_is_named(stages: list[tuple[str, int, int]], words: str) -> None:
    assert words in costs.fault(problem_of(), [PlacedStage(*stage, 0) for stage in stages])


def test_a_ring_needs_a_link_back() -> None:
    one_way = replace(problem_of(), links=WIRES[:1])
    stages = [PlacedStage("fast", 0, 6, 0), PlacedStage("plain", 6, 10, 0)]
    assert "no link behind stage 1" in costs.fault(one_way, stages)
    assert costs.fault(replace(one_way, default_link=LinkNumbers("", "", 1.0)), stages) == ""
