"""Why nodes are left out of a plan, and what keeps the plan from being better. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from peerinfer.placement.costs import stage_cost
from peerinfer.placement.explain_asking import EQUAL, Asking, alone, cost, holds, is_timed, slowest
from peerinfer.placement.explain_words import name, over, part_in_words, speed
from peerinfer.placement.plan import Plan, bytes_per_layer, in_words
from peerinfer.placement.problem import NodeNumbers, Problem
from peerinfer.placement.variants import PLENTY_BYTES, only, with_memory

EXCHANGES_MAX: Final = 2
"""Nodes of the plan that are exchanged for one that is left out, to see what it would bring."""
GROWN_MAX: Final = 6
"""Nodes whose memory is made endless in turn, to see which of them is short of it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A node without a stage; `reason` completes "NAME …"."""

    node: str
    name: str
    constraint: str
    """`given` (owner, reach, --without), `memory`, `link`, `fit`, `speed`, or `search`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Binding:
    """What keeps a plan from being better."""

    constraint: str
    """`memory`, `link`, `compute`, or `min-nodes`."""
    node: str
    """That it is about; empty for `min-nodes`."""
    text: str


def left_out(problem: Problem, plan: Plan | None, asking: Asking) -> tuple[LeftOut, ...]:
    """Every node without a stage, and the constraint that decides it. Without a plan: those that cannot help."""
    given = [LeftOut(one.node, one.name, "given", one.reason) for one in problem.excluded]
    used = {stage.node for stage in plan.stages} if plan is not None else set[str]()
    others = [node for node in problem.nodes if node.node not in used]
    found = [_unable(problem, node) or (_unwanted(problem, plan, node, asking) if plan else None) for node in others]
    return (*given, *(one for one in found if one is not None))


def _unable(problem: Problem, node: NodeNumbers) -> LeftOut | None:
    """Why a node can hold no stage at all."""
    block = min(end - start for start, end in pairwise(problem.model.cuts()))
    roles = ((False, False), (True, False), (False, True), (True, True))
    if not any(holds(problem, node, is_first=first, is_last=last) >= block for first, last in roles):
        needed = block * bytes_per_layer(problem.model, problem.room) + node.stage_bytes
        what = "one layer" if block == 1 else f"{block} layers, the least that can be cut off"
        reason = f"cannot hold {what}: {in_words(needed)} are needed, {in_words(node.memory_bytes)} may be used"
        return LeftOut(node.node, node.name, "memory", reason)
    reached = {end for pair in problem.wires() if node.node in pair for end in pair}
    if len(problem.nodes) > 1 and not reached and alone(problem, node.node) is None:
        return LeftOut(node.node, node.name, "link", "has no link to any other node")
    return None


def _unwanted(problem: Problem, plan: Plan, node: NodeNumbers, asking: Asking) -> LeftOut:
    """What a plan with this node would be."""
    plans = list(_with(problem, plan, node, asking))
    if not plans:
        wires = problem.wires()
        is_cut_off = not any((node.node, stage.node) in wires for stage in plan.stages)
        text = "has no link to the nodes that hold the model" if is_cut_off else "fits into no chain with the others"
        return LeftOut(node.node, node.name, "link" if is_cut_off else "fit", text)
    best = min(plans, key=lambda one: cost(problem, one))
    if not (is_timed(best) and is_timed(plan)) and problem.policy != "spread":
        return LeftOut(node.node, node.name, "speed", "is not needed to hold the model")
    now, then = cost(problem, plan), cost(problem, best)
    with_it = f"{speed(problem, best)} instead of {speed(problem, plan)} with it".replace(
        " tokens/s instead", " instead"
    )
    if then < now * (1 - EQUAL):
        return LeftOut(node.node, node.name, "search", f"might help ({with_it}): ask again, the planner had no time")
    if then <= now * (1 + EQUAL):
        return LeftOut(node.node, node.name, "speed", f"would bring nothing: {speed(problem, best)} with it as well")
    does = {
        "latency": "would slow every token",
        "throughput": "would slow the pace",
        "spread": "would not share it out",
    }
    return LeftOut(node.node, node.name, "speed", f"{does[problem.policy]}: {with_it}")


def _with(problem: Problem, plan: Plan, node: NodeNumbers, asking: Asking) -> Iterator[Plan]:
    """Plans that use `node`: alone, besides those of the plan, and in the place of one of them."""
    solo = alone(problem, node.node)
    if solo is not None:
        yield solo
    used = [stage.node for stage in plan.stages]
    wider = asking.plan(replace(only(problem, {*used, node.node}), min_nodes=len(used) + 1))
    if wider is not None:
        yield wider
    if len(used) < 2 or problem.min_nodes > len(used):
        return
    fewest_layers = sorted(plan.stages, key=lambda stage: stage.last_layer - stage.first_layer)
    for stage in fewest_layers[:EXCHANGES_MAX]:
        exchanged = asking.plan(replace(only(problem, {*used, node.node} - {stage.node}), min_nodes=len(used)))
        if exchanged is not None:
            yield exchanged


def binding(problem: Problem, plan: Plan, asking: Asking) -> Binding:
    """What would have to change for a better plan: how many nodes were asked for, a memory, a link, or a device."""
    if problem.policy == "spread":
        fullest = max(plan.stages, key=lambda stage: stage.memory_bytes / max(1, _memory(problem, stage.node)))
        share = fullest.memory_bytes / max(1, _memory(problem, fullest.node))
        return Binding(
            "memory", fullest.node, f"the memory of {name(problem, fullest.node)}, of which {share:.0%} are taken"
        )
    return _of_count(problem, plan, asking) or _of_memory(problem, plan, asking) or _of_time(problem, plan)


def _of_count(problem: Problem, plan: Plan, asking: Asking) -> Binding | None:
    if problem.min_nodes < 2 or len(plan.stages) > problem.min_nodes:
        return None
    free = replace(problem, min_nodes=1)
    better = asking.plan(free)
    if better is None or not _is_better(problem, better, plan):
        return None
    text = f"at least {problem.min_nodes} nodes were asked for; {over(problem, better)} would do {speed(free, better)}"
    return Binding("min-nodes", "", text)


def _of_memory(problem: Problem, plan: Plan, asking: Asking) -> Binding | None:
    """Which memory is in the way: with more of it the plan would be better."""
    if not is_timed(plan):
        return None
    everybody = asking.plan(with_memory(problem, {node.node for node in problem.nodes}, PLENTY_BYTES))
    if everybody is None or not _is_better(problem, everybody, plan):
        return None
    used = [stage.node for stage in plan.stages]
    wanted = [stage.node for stage in everybody.stages]
    grown = [
        (better, node)
        for node in list(dict.fromkeys([*wanted, *used]))[:GROWN_MAX]
        if (better := asking.plan(with_memory(problem, {node}, PLENTY_BYTES))) is not None
    ]
    best, node = min(grown, key=lambda one: cost(problem, one[0]), default=(everybody, used[0]))
    if not _is_better(problem, best, plan):
        return None
    more = _full(problem, plan, node)
    return Binding(
        "memory", node, f"the memory of {name(problem, node)}{more}; with more it would be {speed(problem, best)}"
    )


def _full(problem: Problem, plan: Plan, node: str) -> str:
    stage = next((one for one in plan.stages if one.node == node), None)
    if stage is None:
        return f", which may use {in_words(_memory(problem, node))}"
    layers, total = stage.last_layer - stage.first_layer, problem.model.layers
    if len(problem.node(node).devices) > 1 and stage.accelerated < layers:
        return f": its GPU holds {stage.accelerated} of the {layers} layers"
    is_first, is_last = stage.first_layer == 0, stage.last_layer == total
    more = stage_cost(problem.model, problem.room, problem.node(node), layers + 1, is_first=is_first, is_last=is_last)
    return (
        " is full: one more layer does not fit"
        if more is None
        else ": the layers that it should take besides do not fit"
    )


def _of_time(problem: Problem, plan: Plan) -> Binding:
    part = slowest(problem, plan)
    if not is_timed(plan):
        return Binding("compute", part.node, "not known: the speed of these nodes was not measured yet")
    share = part.us / plan.predicted.token_us
    kind = "link" if part.target else "compute"
    if problem.policy == "throughput":
        return Binding(kind, part.node, f"{part_in_words(problem, part)}, which sets the pace")
    return Binding(kind, part.node, f"{part_in_words(problem, part)}, which takes {share:.0%} of a token's time")


def _is_better(problem: Problem, one: Plan, other: Plan) -> bool:
    return cost(problem, one) < cost(problem, other) * (1 - EQUAL)


def _memory(problem: Problem, node: str) -> int:
    return problem.node(node).memory_bytes
