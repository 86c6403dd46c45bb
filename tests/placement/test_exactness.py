"""500 random clusters: CP-SAT equals the naive exact planner, greedy is never better, and no memory is exceeded."""

from __future__ import annotations

import math
import sys
from collections import Counter

import pytest
from random_clusters import small_cluster

from peerinfer.placement import cp_sat, greedy
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from peerinfer.placement.ranking import objective, plan_of
from peerinfer.placement.rule import by_rule
from peerinfer.placement.service import Planner
from tests.placement.oracle import best_value, stage_memory, value_of

CLUSTERS = 500
SOLVE_S = 20.0
"""For a problem of some milliseconds: a slow machine must not fail the comparison."""


def checked(problem: Problem, plan: Plan) -> float:
    """What `plan` comes to by the oracle's own functions, which must be what it says; no memory is exceeded."""
    nodes = {node.node: node for node in problem.nodes}
    for stage in plan.stages:
        needed = stage_memory(problem, nodes[stage.node], stage.first_layer, stage.last_layer)
        assert stage.memory_bytes == needed <= sum(device.memory_bytes for device in nodes[stage.node].devices)
    value = value_of(problem, [(stage.node, stage.first_layer, stage.last_layer) for stage in plan.stages])
    assert value == pytest.approx(objective(problem, plan.stages, plan.predicted), rel=1e-9)
    return value


def solved(problem: Problem, found: Plan | None) -> Plan | None:
    """The better one of the greedy plan and what CP-SAT finds beyond it."""
    to_beat = None if found is None else objective(problem, found.stages, found.predicted)
    chain = cp_sat.solve(problem, to_beat, SOLVE_S)
    assert chain.is_proven
    return plan_of(problem, chain.nodes, chain.ends, "cp-sat") if chain.nodes else found


@pytest.mark.parametrize("policy", ["latency", "throughput", "spread"])
def test_the_solver_equals_the_oracle_and_greedy_is_never_better(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gaps: list[float] = []
    kinds: Counter[str] = Counter()
    for seed in range(CLUSTERS):
        problem = small_cluster(seed, policy)
        best = best_value(problem)
        found = greedy.find(problem)
        plan = solved(problem, found)
        if plan is None:
            assert math.isinf(best), f"seed {seed}: nothing found, but {best} is possible"
            kinds["impossible"] += 1
            continue
        value = checked(problem, plan)
        assert value == pytest.approx(best, rel=1e-3), f"seed {seed}"
        ruled = by_rule(problem, found)
        if ruled is not None:
            kinds["rule"] += 1
            assert checked(problem, ruled) == pytest.approx(best, rel=1e-6), f"seed {seed}"
        kinds["chain" if len(plan.stages) > 1 else "solo"] += 1
        if found is None:
            kinds["missed by greedy"] += 1
            continue
        assert checked(problem, found) >= best * (1 - 1e-9), f"seed {seed}"
        gaps.append(checked(problem, found) / best - 1)
    mean, most = sum(gaps) / len(gaps), max(gaps)
    with capsys.disabled():
        sys.stdout.write(f"\n{policy}: greedy is {mean:.2%} worse on average, {most:.1%} at most; {dict(kinds)}\n")
    assert kinds["chain"] > CLUSTERS / 4
    assert kinds["solo"] or policy == "spread"


async def test_a_real_child_answers_as_the_oracle_does() -> None:
    planner = Planner()
    try:
        for seed in range(0, 60, 3):
            problem = small_cluster(seed, ("latency", "throughput", "spread")[seed % 9 // 3])
            best = best_value(problem)
            if math.isinf(best):
                continue
            plan = await planner.solve(problem, SOLVE_S)
            assert plan.is_optimal
            assert plan.solver in {"cp-sat", "rule"}
            assert checked(problem, plan) == pytest.approx(best, rel=1e-3), f"seed {seed}"
    finally:
        await planner.stop()
