"""What gossip says on the wire: one envelope, as its node sealed it."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.net.messages import Tag, message


@message(Tag.SNAPSHOT)
@dataclass(frozen=True, slots=True)
class SnapshotSealed:
    """Any node → any node: a member's newest snapshot in its envelope (`gossip/envelope.py`)."""

    envelope: bytes
