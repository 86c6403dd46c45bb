"""The ballot: who may command, and since when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """Who may command, and since when: totally ordered."""

    counter: int
    node: str
