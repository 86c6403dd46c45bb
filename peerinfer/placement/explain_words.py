"""The words of an explanation: a speed, a few names, a stage or a hop. Pure."""

from __future__ import annotations

from typing import Final

from peerinfer.placement.explain_asking import cost, is_timed, slowest
from peerinfer.placement.plan import Part, Plan, in_list
from peerinfer.placement.problem import Problem

NAMES_MAX: Final = 4
"""Names in a sentence; more are counted."""
NAME_SHOWN: Final = 24
"""Characters of a name in a sentence."""


def speed(problem: Problem, plan: Plan) -> str:
    """What a plan does: `31.2 tokens/s`; under `spread` what it takes of a memory."""
    if problem.policy == "spread":
        return f"{cost(problem, plan):.0%} of a memory at most"
    return f"{number(plan.predicted.tokens_per_s)} tokens/s" if is_timed(plan) else "a speed that was not measured yet"


def number(value: float) -> str:
    """Three digits that count: `31.2`, `0.52`, `240`."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def name(problem: Problem, node: str) -> str:
    """The name of a node, cut short."""
    full = problem.node(node).name
    return full if len(full) <= NAME_SHOWN else f"{full[: NAME_SHOWN - 1]}…"


def over(problem: Problem, plan: Plan) -> str:
    """Who holds stages: `desk and lap`."""
    names = [name(problem, stage.node) for stage in plan.stages]
    return in_list(names) if len(names) <= NAMES_MAX else f"{len(names)} nodes"


def part_in_words(problem: Problem, part: Part) -> str:
    """`the stage on lap`, or `the way from desk to lap`."""
    if part.target:
        return f"the way from {name(problem, part.node)} to {name(problem, part.target)}"
    return f"the stage on {name(problem, part.node)}"


def bottleneck(problem: Problem, plan: Plan) -> str:
    """The part that takes most, with its share of a token's time; empty where speeds are not known."""
    if not is_timed(plan):
        return ""
    part, token_us = slowest(problem, plan), plan.predicted.token_us
    if problem.policy == "throughput":
        return f"{part_in_words(problem, part)}: {_ms(part.us)} ms per token, which sets the pace"
    share = part.us / token_us
    return f"{part_in_words(problem, part)}: {share:.0%} of a token's time, {_ms(part.us)} of {_ms(token_us)} ms"


def _ms(us: float) -> str:
    return f"{us / 1000:.1f}" if us >= 10_000 else f"{us / 1000:.2g}"
