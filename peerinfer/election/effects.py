"""What the machine that elects asks of its door, in the order in which it must happen."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.election.ballot import Ballot
from peerinfer.net.effects import SendTo


@dataclass(frozen=True, slots=True)
class SaveBallot:
    """Put the promise on disk, synced, before anything that follows: a reply tells of it."""

    ballot: Ballot


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """`leader` leads under `ballot` from now on; None: nobody that this node would obey."""

    leader: str | None
    ballot: Ballot | None


Effects = tuple[SaveBallot | SendTo | LeaderChanged, ...]
