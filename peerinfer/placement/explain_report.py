"""An explanation as the JSON object that `plan --json` prints; interface.md of the design draws it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from peerinfer.placement.costs import PlacedStage
from peerinfer.placement.explain import Explanation
from peerinfer.placement.explain_alternatives import Alternative
from peerinfer.placement.explain_asking import is_timed
from peerinfer.placement.explain_shortage import Shortage
from peerinfer.placement.explain_words import bottleneck
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem


def report(told: Explanation, engines: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object. `engines` names the engine of each node by its id, where that is known."""
    problem, plan = told.problem, told.plan
    return {
        "summary": told.summary,
        "policy": problem.policy,
        "context": problem.room.context,
        "slots": problem.room.slots,
        "min_nodes": problem.min_nodes,
        "stages": _stages(problem, plan, engines or {}) if plan else [],
        "predicted": _predicted(problem, plan) if plan else None,
        "solver": _solver(plan) if plan else None,
        "binding": (
            {"constraint": told.binding.constraint, "node": told.binding.node or None, "text": told.binding.text}
            if told.binding
            else None
        ),
        "alternatives": [_alternative(one, engines or {}) for one in told.alternatives],
        "excluded": [
            {"node": one.node, "name": one.name, "constraint": one.constraint, "reason": one.reason}
            for one in told.left_out
        ],
        "infeasible": _infeasible(told.shortage) if told.shortage else None,
    }


def _solver(plan: Plan) -> dict[str, Any]:
    """`note` says why the greedy planner answered alone; empty if it did not."""
    return {"name": plan.solver, "optimal": plan.is_optimal, "ms": round(plan.solver_ms, 3), "note": plan.note}


def _stages(problem: Problem, plan: Plan, engines: Mapping[str, str]) -> list[dict[str, Any]]:
    """In ring order; the time of a stage stands before the way to the next."""
    times = [part.us for part in plan.predicted.parts if not part.target]
    return [_stage(problem, stage, us, engines) for stage, us in zip(plan.stages, times, strict=True)]


def _stage(problem: Problem, stage: PlacedStage, us: float, engines: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {"node": stage.node, "name": problem.node(stage.node).name}
    if stage.node in engines:
        told["engine"] = engines[stage.node]
    if len(problem.node(stage.node).devices) > 1:
        told["accelerated"] = stage.accelerated
    return {
        **told,
        "layers": [stage.first_layer, stage.last_layer],
        "memory_bytes": stage.memory_bytes,
        "ms": us / 1000 if us > 0 else None,
    }


def _predicted(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Figures are null where the speed of a node is not known."""
    predicted, is_known = plan.predicted, is_timed(plan)
    ttft = predicted.ttft_us
    return {
        "tokens_per_s": predicted.tokens_per_s if is_known and math.isfinite(predicted.tokens_per_s) else None,
        "ttft_ms": ttft / 1000 if is_known and ttft is not None else None,
        "bottleneck": bottleneck(problem, plan) or None,
    }


def _alternative(one: Alternative, engines: Mapping[str, str]) -> dict[str, Any]:
    return {
        "label": one.label,
        "policy": one.problem.policy,
        "stages": _stages(one.problem, one.plan, engines),
        "predicted": _predicted(one.problem, one.plan),
    }


def _infeasible(short: Shortage) -> dict[str, Any]:
    return {
        "reason": short.reason,
        "short_bytes": short.short_bytes,
        "needed_bytes": short.needed_bytes,
        "available_bytes": short.available_bytes,
        "try": [one.text for one in short.remedies],
        "options": [{"option": one.option, "value": one.value} for one in short.remedies],
    }
