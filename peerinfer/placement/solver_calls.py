"""What the planner and its child tell each other: a problem with a value to beat, and the chain that beats it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peerinfer.placement.problem import Problem

SOLVE: Final = 1
TASK_MAX_BYTES: Final = 4 << 20
"""A hundred nodes with a link for each pair take a fifth of it."""
CHAIN_MAX_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Chain:
    """What the solver found."""

    nodes: tuple[str, ...] = ()
    """In ring order; empty if it found no chain that is better than the value to beat."""
    ends: tuple[int, ...] = ()
    """Where each stage ends."""
    is_proven: bool = False
    """Whether there is none better than this; if there are no nodes, than the value to beat."""
    trouble: str = ""
    """Why there is no solver, in one sentence."""


@dataclass(frozen=True, slots=True)
class Task:
    """`SOLVE`: the best chain whose value by the policy is below `to_beat` (None: the best of all)."""

    problem: Problem
    limit_s: float
    to_beat: float | None = None
    hint: Chain | None = None
    """A chain that comes to the value to beat."""
