"""What the machine of gossip asks of its door, in the order in which it must happen."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.gossip.snapshot import Snapshot
from peerinfer.net.effects import SendTo


@dataclass(frozen=True, slots=True)
class SaveIncarnation:
    """Put this node's incarnation on disk, synced, before anything that follows: a seal tells of it."""

    value: int


@dataclass(frozen=True, slots=True)
class SnapshotLearned:
    """`node` (this node itself included) said something new of itself; the table has it already."""

    node: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class SnapshotRefused:
    """`sender` handed on bytes that are no member's snapshot; told at most every few seconds of each sender."""

    sender: str
    reason: str


Effect = SaveIncarnation | SendTo | SnapshotLearned | SnapshotRefused
Effects = tuple[Effect, ...]
