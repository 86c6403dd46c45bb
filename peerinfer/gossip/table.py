"""The newest snapshot of every member, and the greatest mark ever seen of each: an older one is never taken. Pure."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from peerinfer.gossip.envelope import Envelope
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.gossip.snapshot_codec import decode_snapshot
from peerinfer.identity.roster import MEMBERS_MAX, STATEMENTS_MAX

Mark = tuple[int, int]
"""(incarnation, sequence): orders the snapshots of one node."""
NEVER: Final[Mark] = (-1, -1)
"""Below every mark."""
MARKS_MAX: Final = STATEMENTS_MAX
"""Nodes whose marks are kept, those no longer members included: no more can ever have been members of a roster."""
DIGEST_BYTES: Final = 16
"""Half a SHA-256. Nobody gains by a collision: it would only keep two tables apart until the next change."""

_ROW = struct.Struct(">16sQQ")


@dataclass(frozen=True, slots=True)
class Entry:
    """A member's newest snapshot with the envelope it came in."""

    envelope: Envelope
    snapshot: Snapshot


class SnapshotTable:
    """Members' newest snapshots, at most `MEMBERS_MAX`. Marks outlive entries: nothing old returns after a removal."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._seen: dict[str, Mark] = {}
        self._digest: bytes | None = None

    @property
    def entries(self) -> dict[str, Entry]:
        """All that is known, by node id; for reading only."""
        return self._entries

    @property
    def digest(self) -> bytes:
        """`DIGEST_BYTES` of SHA-256 over the rows (node id, incarnation, sequence) in order of node ids."""
        if self._digest is None:
            rows = (_ROW.pack(bytes.fromhex(node), *mark) for node, mark in sorted(self.marks().items()))
            self._digest = hashlib.sha256(b"".join(rows)).digest()[:DIGEST_BYTES]
        return self._digest

    def marks(self) -> dict[str, Mark]:
        """The mark of every entry, by node id."""
        return {node: entry.envelope.mark for node, entry in self._entries.items()}

    def seen(self, node: str) -> Mark:
        """The greatest mark ever seen of `node`, whether or not it has an entry; `NEVER` if there was none."""
        return self._seen.get(node, NEVER)

    def entry(self, node: str) -> Entry | None:
        """What is known of `node`."""
        return self._entries.get(node)

    def offer(self, envelope: Envelope) -> Snapshot | None:
        """The snapshot of a verified envelope, now kept; None if one as new was seen before, or the table is full.

        Raises `BadFrame` if the payload is no snapshot.
        """
        node = envelope.node
        if envelope.mark <= self.seen(node) or (len(self._entries) >= MEMBERS_MAX and node not in self._entries):
            return None
        snapshot = decode_snapshot(envelope.payload)
        self._seen[node] = envelope.mark
        self._entries[node] = Entry(envelope, snapshot)
        self._digest = None
        if len(self._seen) > MARKS_MAX:
            del self._seen[next(old for old in self._seen if old not in self._entries)]
        return snapshot

    def keep_only(self, members: Collection[str]) -> None:
        """Forgets the snapshots of nodes that are no members (their marks stay)."""
        for node in self._entries.keys() - set(members):
            del self._entries[node]
            self._digest = None
