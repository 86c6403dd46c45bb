"""Why a plan is as it is, or why there is none: forecast, bottleneck, alternatives, who was left out, what would help.

Pure. The planner that is asked for other plans comes in as a function, and is asked a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerinfer.placement.explain_alternatives import Alternative, alternatives, other_way
from peerinfer.placement.explain_asking import EQUAL, Asking, Solve, cost, is_timed
from peerinfer.placement.explain_reasons import Binding, LeftOut, binding, left_out
from peerinfer.placement.explain_shortage import Shortage, Waiver, shortage
from peerinfer.placement.explain_words import name, over, speed
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is told of a plan, or of there being none."""

    problem: Problem
    plan: Plan | None
    summary: str
    """One sentence or two, at most 300 characters for a plan."""
    binding: Binding | None
    alternatives: tuple[Alternative, ...]
    left_out: tuple[LeftOut, ...]
    shortage: Shortage | None


def explain(problem: Problem, plan: Plan, solve: Solve) -> Explanation:
    """Why `plan` answers `problem`."""
    asking = Asking(solve)
    other = other_way(problem, plan, asking)
    return Explanation(
        problem,
        plan,
        _summary(problem, plan, other),
        binding(problem, plan, asking),
        alternatives(problem, plan, asking),
        left_out(problem, plan, asking),
        None,
    )


def explain_none(
    problem: Problem, solve: Solve, *, waivers: Sequence[Waiver] = (), bits: float | None = None
) -> Explanation:
    """Why no plan answers `problem`, and what would help.

    `waivers` are decisions that somebody could take back; `bits` of a weight tell which quantisation would do.
    """
    asking = Asking(solve)
    short = shortage(problem, asking, waivers=waivers, bits=bits)
    return Explanation(problem, None, short.reason, None, (), left_out(problem, None, asking), short)


def summary(problem: Problem, plan: Plan, solve: Solve | None = None) -> str:
    """A sentence on a plan: who runs it, how fast it will be, and how fast the other way would be.

    With `solve` it is asked once for a split, if the plan is one node.
    """
    return _summary(problem, plan, other_way(problem, plan, None if solve is None else Asking(solve)))


def _summary(problem: Problem, plan: Plan, other: Alternative | None) -> str:
    """`other` is the best split of a plan on one node, and the best single node for a split."""
    does, is_solo = speed(problem, plan), len(plan.stages) == 1
    if not is_timed(plan) and problem.policy != "spread":
        holds = "holds it whole" if is_solo else "share it"
        return f"{over(problem, plan)} {holds}; how fast that is was not measured yet."
    if is_solo and other is None:
        return f"{over(problem, plan)} holds it whole: {does}."
    if other is None:
        return f"{over(problem, plan)} share it, for no node holds it alone: {does}."
    then = speed(other.problem, other.plan)
    is_best = cost(problem, plan) <= cost(other.problem, other.plan) * (1 + EQUAL)
    if is_solo:
        is_fastest = "is fastest alone" if problem.policy != "spread" else "need not share it"
        how = f"holds it whole and {is_fastest}" if is_best else "holds it whole"
        return f"{over(problem, plan)} {how}: {does}; {other.label} it would be {then}."
    solo = name(other.problem, other.plan.stages[0].node)
    asked = f"as at least {problem.min_nodes} nodes were asked for" if problem.min_nodes > 1 else ""
    how = f", {asked}" if asked and not is_best else ""
    return f"{over(problem, plan)} share it{how}: {does}; {solo} alone would do {then}."
