"""How an explanation asks for other plans: within a budget, and never what memory alone rules out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Final

from peerinfer.errors import NoPlacement
from peerinfer.placement.costs import fault, placed, predict
from peerinfer.placement.plan import Part, Plan, bytes_per_layer
from peerinfer.placement.problem import NodeNumbers, Problem

Solve = Callable[[Problem], Plan]
"""A quick planner. Raises `NoPlacement`."""
SOLVES_MAX: Final = 40
"""Plans asked for in one explanation: at 20 ms each it is there within a second."""
STEPS_MAX: Final = 6
"""Steps of a search that asks the planner each time; it ends within a sixty-fourth of the range."""
EQUAL: Final = 1e-3
"""Plans that differ by less, in proportion, are equally good."""


class Asking:
    """A planner that is asked at most `SOLVES_MAX` times."""

    def __init__(self, solve: Solve) -> None:
        self._solve = solve
        self._left = SOLVES_MAX

    def plan(self, problem: Problem) -> Plan | None:
        """The plan; None if there is none, or too much was asked already."""
        if self._left <= 0 or not fits(problem):
            return None
        self._left -= 1
        try:
            return self._solve(problem)
        except NoPlacement:
            return None

    def least(self, low: int, high: int, changed: Callable[[int], Problem]) -> int | None:
        """The least change from `low` to `high` with which there is a plan; None if there is none even with `high`.

        Exact where memory decides. Where cuts or links do as well, the answer is right, but a little more may be
        asked than is needed.
        """
        if low > high or not fits(changed(high)):
            return None
        floor, least = low, high
        while floor < least:
            middle = (floor + least) // 2
            floor, least = (floor, middle) if fits(changed(middle)) else (middle + 1, least)
        if self.plan(changed(least)) is not None:
            return least
        if least == high or self.plan(changed(high)) is None:
            return None
        floor, least = least + 1, high
        for _ in range(STEPS_MAX):
            middle = (floor + least) // 2
            floor, least = (floor, middle) if self.plan(changed(middle)) is not None else (middle + 1, least)
            if floor >= least:
                break
        return least


def alone(problem: Problem, node: str) -> Plan | None:
    """The whole model on one node; None if it does not fit."""
    stage = placed(problem, node, 0, problem.model.layers)
    if stage is None or fault(problem, (stage,)):
        return None
    return Plan((stage,), predict(problem, (stage,)), "rule")


def cost(problem: Problem, plan: Plan) -> float:
    """What the policy minimises: microseconds, or the largest share of a memory."""
    if problem.policy == "spread":
        return max(stage.memory_bytes / max(1, problem.node(stage.node).memory_bytes) for stage in plan.stages)
    return plan.predicted.pace_us if problem.policy == "throughput" else plan.predicted.token_us


def is_timed(plan: Plan) -> bool:
    """Whether the speed of all its stages is known."""
    return all(part.us > 0 for part in plan.predicted.parts if not part.target)


def slowest(problem: Problem, plan: Plan) -> Part:
    """The part that takes most; with every stage busy the way back to the first slows nobody."""
    parts = plan.predicted.parts
    counted = parts[:-1] if problem.policy == "throughput" and len(plan.stages) > 1 else parts
    return max(counted, key=lambda part: part.us)


def holds(problem: Problem, node: NodeNumbers, *, is_first: bool, is_last: bool) -> int:
    """Most layers that a node holds there by its memory; -1 if not even what such a stage takes besides layers."""
    model, each = problem.model, bytes_per_layer(problem.model, problem.room)
    host = len(node.devices) - 1
    most = -1
    for head_on in range(len(node.devices)) if is_last else (-1,):
        layers = 0
        for number, device in enumerate(node.devices):
            fixed = model.head_bytes if number == head_on else 0
            fixed += (node.stage_bytes + (model.embedding_bytes if is_first else 0)) if number == host else 0
            if fixed > device.memory_bytes:
                break
            layers += (device.memory_bytes - fixed) // each if each else model.layers
        else:
            most = max(most, layers)
    limit = model.layers if node.layers_max is None else min(model.layers, node.layers_max)
    return min(most, limit)


def fits(problem: Problem) -> bool:
    """Whether memory alone allows a plan: if every node reached every other, and every layer could be cut."""
    layers, nodes = problem.model.layers, problem.nodes
    if problem.min_nodes > min(len(nodes), len(problem.model.cuts()) - 1):
        return False
    if problem.min_nodes <= 1 and any(holds(problem, node, is_first=True, is_last=True) >= layers for node in nodes):
        return True
    firsts = [holds(problem, node, is_first=True, is_last=False) for node in nodes]
    lasts = [holds(problem, node, is_first=False, is_last=True) for node in nodes]
    middles = [max(0, holds(problem, node, is_first=False, is_last=False)) for node in nodes]
    total = sum(middles)
    return any(
        firsts[a] > 0 and lasts[b] > 0 and total - middles[a] - middles[b] + firsts[a] + lasts[b] >= layers
        for a, b in permutations(range(len(nodes)), 2)
    )
