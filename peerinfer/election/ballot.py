"""The ballot: who may command, and since when; and what makes one node a better leader than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

COUNTER_MAX: Final = 2**62
"""Above this a counter is no honest one: elections come by the second, not by the nanosecond."""
NODE_MAX: Final = 64
"""Characters of a node id in a ballot; ours have 32."""


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """Who may command, and since when: totally ordered. A node issues each of its ballots once in its life."""

    counter: int
    node: str

    def __post_init__(self) -> None:
        """Raises `ValueError` for what no honest node issues."""
        if not 0 <= self.counter <= COUNTER_MAX or len(self.node) > NODE_MAX:
            raise ValueError("a ballot out of range")


NO_BALLOT: Final = Ballot(0, "")
"""Below every ballot that anybody issues."""


@dataclass(frozen=True, slots=True, order=True)
class Standing:
    """How good a leader a node would be: compared field by field, the greater the better."""

    reach: int = 0
    """Nodes that it hears itself over their own links, and this one."""
    mains: bool = True
    """Whether it is not on battery."""
