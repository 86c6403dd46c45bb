"""The newest snapshot of every member, and the greatest mark ever seen of each: an older one is never taken."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from peerinfer.gossip.envelope import Envelope
from peerinfer.gossip.snapshot import Snapshot, decode_snapshot


@dataclass(frozen=True, slots=True)
class Entry:
    """A member's newest snapshot with the envelope it came in."""

    envelope: Envelope
    snapshot: Snapshot


class SnapshotTable:
    """Members' newest snapshots. Marks outlive entries, so nothing old returns after a removal."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._marks: dict[str, tuple[int, int]] = {}

    def offer(self, envelope: Envelope) -> Snapshot | None:
        """The snapshot of a verified envelope, now kept; None if one as new was seen before. Raises `BadFrame`."""
        if envelope.mark <= self._marks.get(envelope.node, (-1, -1)):
            return None
        snapshot = decode_snapshot(envelope.payload)
        self._marks[envelope.node] = envelope.mark
        self._entries[envelope.node] = Entry(envelope, snapshot)
        return snapshot

    def entry(self, node: str) -> Entry | None:
        """What is known of `node`."""
        return self._entries.get(node)

    def keep_only(self, members: Collection[str]) -> None:
        """Forgets the snapshots of nodes that are no members (their marks stay)."""
        for node in self._entries.keys() - set(members):
            del self._entries[node]
