"""Why a plan is as it is, for people. Pure."""

from __future__ import annotations

from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem


def summary(problem: Problem, plan: Plan) -> str:
    """One sentence on a plan: who runs it, and how fast it will be."""
    names = [problem.node(stage.node).name for stage in plan.stages]
    if len(names) == 1:
        return f"{names[0]} holds it whole: {plan.predicted.tokens_per_s:.1f} tokens/s."
    return f"{len(names)} nodes hold it: {plan.predicted.tokens_per_s:.1f} tokens/s."
