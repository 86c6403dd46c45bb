"""A candidate's question to all that it sees, and who takes part in votes at all. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from peerinfer.election.ballot import Ballot, Standing

MUTE_AFTER: Final = 2
"""Rounds in a row that a node in sight did not answer: it cannot vote (a full disk, a link of one direction), and the
others do without it. That is safe: no promise rests on a majority."""


@dataclass(slots=True)
class Poll:
    """One round: a `PreVote` or a `VoteRequest`, and what came back."""

    ballot: Ballot
    until: float
    """When it ends without a majority (seconds)."""
    votes: dict[str, Standing]
    """Who said yes, and how good a leader each would be."""
    is_vote: bool = False
    answered: set[str] = field(default_factory=set[str])
    is_early: bool = False
    """Whether somebody did not know yet that the leader before is released: then it is asked once more."""


class Turnout:
    """Rounds in a row in which a node that is in sight said nothing."""

    def __init__(self) -> None:
        self._missed: dict[str, int] = {}

    def count(self, silent: Collection[str]) -> None:
        """A round ended, and these did not answer."""
        self._missed = {node: self._missed.get(node, 0) + 1 for node in sorted(silent)}

    def heard(self, node: str) -> None:
        """It does take part."""
        self._missed.pop(node, None)

    def voters(self, visible: Collection[str]) -> set[str]:
        """Those in sight of whom a vote can be expected."""
        return {node for node in visible if self._missed.get(node, 0) < MUTE_AFTER}
