"""Which of several sound plans is taken: the better one by the policy, and of equal ones always the same.

Of equal ones the one with fewer stages wins, then the one whose nodes have the weights already, then the ring that
begins with the node that asks, then the one that fills memory least, then the one with the roomier nodes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peerinfer.placement import costs
from peerinfer.placement.plan import PlacedStage, Plan, Predicted, Stages
from peerinfer.placement.problem import Problem

STEPS_PER_US: Final = 1000
"""Times are compared in nanoseconds: less is rounding."""
STEPS_OF_SHARE: Final = 1_000_000
"""Shares of memory are compared in millionths."""

Key = tuple[int, int, int, bool, int, int, tuple[tuple[int, str, int], ...]]


def largest_share(problem: Problem, stages: Stages) -> float:
    """The largest share of its memory, 0 … 1, that a node gives."""
    return max(stage.memory_bytes / max(1, problem.node(stage.node).memory_bytes) for stage in stages)


def objective(problem: Problem, stages: Stages, predicted: Predicted) -> float:
    """What the policy minimises: microseconds for a token, microseconds from token to token, or a share of memory."""
    if problem.policy == "spread":
        return largest_share(problem, stages)
    return predicted.pace_us if problem.policy == "throughput" else predicted.token_us


def key(problem: Problem, plan: Plan) -> Key:
    """Less is better."""
    stages, predicted = plan.stages, plan.predicted
    share = round(largest_share(problem, stages) * STEPS_OF_SHARE)
    token = round(predicted.token_us * STEPS_PER_US)
    pace = round(predicted.pace_us * STEPS_PER_US)
    wanted, further = {"latency": (token, share), "throughput": (pace, token), "spread": (share, token)}[problem.policy]
    return (
        wanted,
        len(stages),
        sum(stage.node not in problem.holders for stage in stages),
        stages[0].node != problem.first,
        further,
        share,
        tuple((-problem.node(stage.node).memory_bytes, stage.node, stage.last_layer) for stage in stages),
    )


def best(problem: Problem, plans: Iterable[Plan]) -> Plan | None:
    """The best of sound plans; None if there is none."""
    return min(plans, key=lambda plan: key(problem, plan), default=None)


def plan_of(problem: Problem, nodes: Iterable[str], ends: Iterable[int], solver: str) -> Plan | None:
    """The plan whose stages end at `ends` on `nodes`; None if it is not sound."""
    wanted: list[PlacedStage] = []
    for node, end in zip(nodes, ends, strict=False):
        wanted.append(PlacedStage(node, wanted[-1].last_layer if wanted else 0, end, 0))
    if costs.fault(problem, wanted):
        return None
    placed = (costs.placed(problem, stage.node, stage.first_layer, stage.last_layer) for stage in wanted)
    stages = tuple(stage for stage in placed if stage is not None)
    return Plan(stages, costs.predict(problem, stages), solver)
