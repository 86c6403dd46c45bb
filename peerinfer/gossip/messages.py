"""What gossip says on the wire: sealed snapshots, what a table holds, who was heard, and farewell."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.net.messages import Tag, message


@message(Tag.SNAPSHOT)
@dataclass(frozen=True, slots=True)
class SnapshotSealed:
    """Any node → any node: a member's newest snapshot in its envelope (`gossip/envelope.py`)."""

    envelope: bytes


@message(Tag.GOSSIP_DIGEST)
@dataclass(frozen=True, slots=True)
class GossipDigest:
    """Any node → any node, once a second: the hash of my table. Equal tables need no answer."""

    digest: bytes
    """`SnapshotTable.digest`: 16 bytes."""


@message(Tag.GOSSIP_MARKS)
@dataclass(frozen=True, slots=True)
class GossipMarks:
    """The answer to another digest than one's own: what I hold. Send me what is newer at you."""

    marks: tuple[tuple[bytes, int, int], ...]
    """(node id as 16 bytes, incarnation, sequence); raw ids because there may be 256 of them."""
    complete: bool = True
    """Whether these are all that I hold; else they are only those of which I want newer ones."""


@message(Tag.ASK_HEARD)
@dataclass(frozen=True, slots=True)
class AskHeard:
    """Any node → three neighbours: I hear these nodes no more. When did you?"""

    nodes: tuple[str, ...]
    number: int
    """Comes back in the answer, so that it counts from the time of this question."""


@message(Tag.HEARD)
@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to `AskHeard`: nodes that I heard myself, and how long ago. Those I did not hear are left out."""

    number: int
    ages: tuple[tuple[str, int, int], ...]
    """(node id, its incarnation, microseconds since I heard it)."""


@message(Tag.FAREWELL)
@dataclass(frozen=True, slots=True)
class Farewell:
    """A node → all its peers: I stop now; what comes of this incarnation or an earlier one is late."""

    incarnation: int


MESSAGES: tuple[type[object], ...] = (SnapshotSealed, GossipDigest, GossipMarks, AskHeard, Heard, Farewell)
"""What the machine takes from its peers."""
