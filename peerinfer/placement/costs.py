"""The cost model: what a stage takes on a node, what a ring of stages does, and whether a plan is sound.

A stage of n layers takes `stage_us + n · layer_us`, a roofline with a launch overhead (weights are read once per token;
Williams, Waterman, Patterson 2009), and the head on top of it where it is the last. Solver, greedy planner and
explanation ask the same functions, so that all of them mean the same by "faster".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from peerinfer.placement.plan import Part, PlacedStage, Predicted, bytes_per_layer
from peerinfer.placement.problem import LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

PROMPT_TOKENS: Final = 512
"""Of the prompt for which a time to the first token is told."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage takes on one node."""

    us: float
    memory_bytes: int
    accelerated: int = 0
    """Layers on accelerators."""
    prefill_us: float | None = None
    """For one prompt token; None where it is not known."""


def stage_cost(
    model: ModelNumbers, room: Room, node: NodeNumbers, layers: int, *, is_first: bool, is_last: bool
) -> StageCost | None:
    """The quickest way for `node` to run `layers` layers, filling its devices in order; None if they do not fit."""
    if node.layers_max is not None and layers > node.layers_max:
        return None
    if node.table_us and layers >= len(node.table_us):
        return None  # so many were never measured
    places = range(len(node.devices)) if is_last else (-1,)
    options = [_filled(model, room, node, layers, is_first=is_first, head_on=place) for place in places]
    return min((one for one in options if one is not None), key=lambda one: one.us, default=None)


def _filled(
    model: ModelNumbers, room: Room, node: NodeNumbers, layers: int, *, is_first: bool, head_on: int
) -> StageCost | None:
    """The cost with the head on device number `head_on` (-1: this stage has none)."""
    each = bytes_per_layer(model, room)
    host = len(node.devices) - 1
    left, us, used, prefill_us, accelerated = layers, node.stage_us, 0, 0.0, 0
    is_told = True
    for number, device in enumerate(node.devices):
        fixed = (model.head_bytes if number == head_on else 0) + (node.stage_bytes if number == host else 0)
        fixed += model.embedding_bytes if is_first and number == host else 0
        if fixed > device.memory_bytes:
            return None
        taken = min(left, (device.memory_bytes - fixed) // each) if each else left
        left -= taken
        used += fixed + taken * each
        us += (node.table_us[taken] if node.table_us else taken * device.layer_us) + (
            device.head_us if number == head_on else 0.0
        )
        prefill_us += taken * device.prefill_layer_us
        is_told &= not taken or device.prefill_layer_us > 0
        accelerated += taken if number < host else 0
    return None if left else StageCost(us, used, accelerated, prefill_us if is_told else None)


def predict(problem: Problem, stages: Sequence[PlacedStage]) -> Predicted:
    """What `stages` will do. They must be sound, see `fault`; raises `ValueError` else."""
    model, wires = problem.model, problem.wires()
    costs: list[StageCost] = []
    parts: list[Part] = []
    for number, stage in enumerate(stages):
        cost = _cost_of(problem, stage)
        if cost is None:
            raise ValueError(f"stage {number} does not fit {stage.node}")
        costs.append(cost)
        parts.append(Part(stage.node, "", cost.us))
        if number + 1 < len(stages):
            link = _link(wires, stage.node, stages[number + 1].node)
            parts.append(Part(stage.node, stages[number + 1].node, link.hop_us(model.activation_bytes)))
    pace_us = max(part.us for part in parts)
    back_us = 0.0
    if len(stages) > 1:
        back_us = _link(wires, stages[-1].node, stages[0].node).latency_us
        parts.append(Part(stages[-1].node, stages[0].node, back_us))
    token_us = sum(part.us for part in parts)
    step_us = pace_us if problem.policy == "throughput" else token_us
    return Predicted(
        token_us=token_us,
        pace_us=pace_us,
        tokens_per_s=1e6 / step_us if step_us > 0 else float("inf"),
        ttft_us=_first_token_us(problem, stages, costs, wires, back_us),
        parts=tuple(parts),
    )


def _first_token_us(
    problem: Problem,
    stages: Sequence[PlacedStage],
    costs: list[StageCost],
    wires: dict[tuple[str, str], LinkNumbers],
    back_us: float,
) -> float | None:
    """The prompt goes through the stages in one piece: prefill of each, the hops, and the token's way back."""
    total = back_us
    for cost in costs:
        if cost.prefill_us is None:
            return None
        total += cost.prefill_us * PROMPT_TOKENS
    for stage, following in pairwise(stages):
        total += _link(wires, stage.node, following.node).hop_us(problem.model.activation_bytes * PROMPT_TOKENS)
    return total


def fault(problem: Problem, stages: Sequence[PlacedStage]) -> str:
    """Why `stages` are no answer to `problem`; empty if they are sound."""
    if not stages:
        return "there is no stage"
    cuts, wires, at = set(problem.model.cuts()), problem.wires(), 0
    known = {node.node for node in problem.nodes}
    if len({stage.node for stage in stages}) < len(stages) or any(stage.node not in known for stage in stages):
        return "a node stands twice, or is unknown"
    for number, stage in enumerate(stages):
        if stage.first_layer != at or not stage.first_layer < stage.last_layer or stage.last_layer not in cuts:
            return f"stage {number} begins or ends where it must not"
        at = stage.last_layer
        if _cost_of(problem, stage) is None:
            return f"stage {number} does not fit its node"
        if len(stages) > 1 and (stage.node, stages[(number + 1) % len(stages)].node) not in wires:
            return f"there is no link behind stage {number}"
    if at != problem.model.layers:
        return "layers are left over"
    return "" if len(stages) >= problem.min_nodes else "there are too few stages"


def placed(problem: Problem, node: str, first_layer: int, last_layer: int) -> PlacedStage | None:
    """The stage with its memory and devices; None if it does not fit."""
    cost = _cost_of(problem, PlacedStage(node, first_layer, last_layer, 0))
    return None if cost is None else PlacedStage(node, first_layer, last_layer, cost.memory_bytes, cost.accelerated)


def _cost_of(problem: Problem, stage: PlacedStage) -> StageCost | None:
    return stage_cost(
        problem.model,
        problem.room,
        problem.node(stage.node),
        stage.last_layer - stage.first_layer,
        is_first=stage.first_layer == 0,
        is_last=stage.last_layer == problem.model.layers,
    )


def _link(wires: dict[tuple[str, str], LinkNumbers], origin: str, target: str) -> LinkNumbers:
    link = wires.get((origin, target))
    if link is None:
        raise ValueError(f"there is no link from {origin} to {target}")
    return link
