"""What the machine that elects asks of its door, in the order in which it must happen."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.election.ballot import Ballot


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send `message` to `node` (this node itself included: it is then delivered here)."""

    node: str
    message: object


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """`leader` leads under `ballot` from now on; None: nobody that this node would obey."""

    leader: str | None
    ballot: Ballot | None
