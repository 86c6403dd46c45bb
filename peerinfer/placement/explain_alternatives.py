"""What else could be done: other nodes, one node alone or not, another policy; a few plans, each with its forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from peerinfer.placement.explain_asking import EQUAL, Asking, alone, cost
from peerinfer.placement.explain_words import name, over
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import POLICIES, Problem
from peerinfer.placement.variants import only

ALTERNATIVES_MAX: Final = 8
"""More than that nobody reads."""
LEFT_OUT_MAX: Final = 6
"""Nodes that are left out in turn, those with most layers first."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another plan."""

    label: str
    """Such as `desk alone`, `without lap`, `policy throughput`."""
    problem: Problem
    """That it answers."""
    plan: Plan


def alternatives(problem: Problem, plan: Plan, asking: Asking) -> tuple[Alternative, ...]:
    """Plans that differ from `plan` and from each other."""
    seen = {_layout(plan)}
    found: list[Alternative] = []
    for one in _candidates(problem, plan, asking):
        if _layout(one.plan) not in seen and len(found) < ALTERNATIVES_MAX:
            seen.add(_layout(one.plan))
            found.append(one)
    return tuple(found)


def other_way(problem: Problem, plan: Plan, asking: Asking | None) -> Alternative | None:
    """The best split if `plan` is one node, the best node alone if it is a split; None if there is none.

    Without `asking` no split is looked for.
    """
    if len(plan.stages) > 1:
        return best_alone(problem)
    if asking is None:
        return None
    wider = replace(problem, min_nodes=2)
    split = asking.plan(wider)
    return None if split is None else Alternative(f"over {over(problem, split)}", wider, split)


def best_alone(problem: Problem) -> Alternative | None:
    """The best node that holds the whole model."""
    free = replace(problem, min_nodes=1)
    solos = [plan for node in problem.nodes if (plan := alone(free, node.node)) is not None]
    best = min(solos, key=lambda plan: cost(free, plan), default=None)
    return None if best is None else Alternative(f"{name(problem, best.stages[0].node)} alone", free, best)


def _candidates(problem: Problem, plan: Plan, asking: Asking) -> Iterator[Alternative]:
    other = other_way(problem, plan, asking)
    if other is not None:
        yield other
    if problem.min_nodes > 1:
        free = replace(problem, min_nodes=1)
        freed = asking.plan(free)
        if freed is not None and cost(free, freed) < cost(problem, plan) * (1 - EQUAL):
            yield Alternative("without --min-nodes", free, freed)
    for policy in POLICIES:
        if policy != problem.policy:
            changed = replace(problem, policy=policy)
            found = asking.plan(changed)
            if found is not None:
                yield Alternative(f"policy {policy}", changed, found)
    by_layers = sorted(plan.stages, key=lambda stage: stage.first_layer - stage.last_layer)
    for stage in by_layers[:LEFT_OUT_MAX]:
        fewer = only(problem, {node.node for node in problem.nodes} - {stage.node})
        found = asking.plan(fewer)
        if found is not None:
            yield Alternative(f"without {name(problem, stage.node)}", fewer, found)


def _layout(plan: Plan) -> tuple[tuple[str, int], ...]:
    return tuple((stage.node, stage.last_layer) for stage in plan.stages)
