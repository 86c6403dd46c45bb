"""The door of gossip: signs this node's snapshot, sends it to all live peers, and takes in theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from peerinfer.errors import LinkError
from peerinfer.gossip.envelope import Verify, open_envelope, seal
from peerinfer.gossip.messages import SnapshotSealed
from peerinfer.gossip.snapshot import Snapshot, encode_snapshot
from peerinfer.gossip.table import SnapshotTable
from peerinfer.identity.keys import verify
from peerinfer.identity.roster import Roster

log = logging.getLogger(__name__)

PUSH_EVERY_S: Final = 2.0
"""A snapshot is never much older than this at a live peer."""
PUSH_GAP_S: Final = 0.25
"""Least time between two pushes, however fast things change."""

Heard = Callable[[str, Snapshot], None]


class Signer(Protocol):
    """This node's identity, as far as gossip needs it."""

    @property
    def node_id(self) -> str: ...
    @property
    def mesh_id(self) -> str: ...
    def sign(self, data: bytes, /) -> bytes: ...


class Counter(Protocol):
    """The durable incarnation (`gossip/storage.py`)."""

    value: int

    def jump_above(self, seen: int) -> None: ...


class Wires(Protocol):
    """The switchboard, as far as gossip needs it."""

    def send(self, to: str, message: Any, /) -> Any: ...
    def on(self, kind: type[Any], handler: Callable[[str, Any], None], /) -> Any: ...
    def on_peer(self, handler: Callable[[str, bool], None], /) -> Any: ...
    def peers(self) -> Mapping[str, Any]: ...


def roster_verifier(roster: Callable[[], Roster]) -> Verify:
    """Checks signatures against the members of the roster as it stands at that moment."""

    def check(node_id: str, message: bytes, signature: bytes) -> bool:
        member = roster().members.get(node_id)
        return member is not None and verify(member.public_key, signature, message)

    return check


class GossipService:
    """Sends `compose()` every 2 s, and soon after `announce()`; keeps the newest snapshot of every member."""

    def __init__(
        self, identity: Signer, verify: Verify, incarnation: Counter, wires: Wires, compose: Callable[[], Snapshot]
    ) -> None:
        self.table = SnapshotTable()
        self._identity = identity
        self._verify = verify
        self._incarnation = incarnation
        self._wires = wires
        self._compose = compose
        self._sequence = 0
        self._changed = asyncio.Event()
        self._listeners: list[Heard] = []
        wires.on(SnapshotSealed, self._received)
        wires.on_peer(self._peer_changed)

    def on_snapshot(self, listener: Heard) -> None:
        """Calls `listener(node id, snapshot)` for each new snapshot, this node's own included."""
        self._listeners.append(listener)

    def announce(self) -> None:
        """Something changed: tell the peers soon (at most every `PUSH_GAP_S`)."""
        self._changed.set()

    async def run(self) -> None:
        """Pushes until cancelled."""
        while True:
            self.push()
            await asyncio.sleep(PUSH_GAP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PUSH_EVERY_S - PUSH_GAP_S):
                    await self._changed.wait()
            self._changed.clear()

    def push(self) -> None:
        """Seals a new snapshot of this node and sends it to every peer."""
        me = self._identity.node_id
        self._sequence += 1
        data = seal(
            self._identity.mesh_id,
            me,
            self._incarnation.value,
            self._sequence,
            payload=encode_snapshot(self._compose()),
            sign=self._identity.sign,
        )
        self._take(data)
        for peer in self._wires.peers():
            if peer != me:
                self._send(peer, data)

    def _peer_changed(self, peer: str, up: bool) -> None:
        entry = self.table.entry(self._identity.node_id)
        if up and entry is not None:
            self._send(peer, entry.envelope.data)

    def _received(self, sender: str, message: SnapshotSealed) -> None:
        try:
            self._take(message.envelope, sender)
        except LinkError as error:  # BadFrame and NotTrusted: the sender's fault, not ours
            log.warning("A snapshot from %s was refused. %s", sender, error)

    def _take(self, data: bytes, sender: str = "") -> None:
        check = self._verify if sender else _own_seal  # a node that was removed still knows its own seal
        envelope = open_envelope(data, self._identity.mesh_id, check)
        me = self._identity.node_id
        if envelope.node == me and sender:
            if envelope.mark > (self._incarnation.value, self._sequence):
                self._incarnation.jump_above(envelope.incarnation)
                self.announce()
            return
        snapshot = self.table.offer(envelope)
        known = self.table.entry(envelope.node)
        if snapshot is not None:
            for listener in self._listeners:
                listener(envelope.node, snapshot)
        elif sender == envelope.node and known is not None and known.envelope.incarnation > envelope.incarnation:
            self._send(sender, known.envelope.data)  # it lost its count (a restored home): show it what it said

    def _send(self, peer: str, data: bytes) -> None:
        with contextlib.suppress(LinkError):  # the link is just going down: the next push follows its return
            self._wires.send(peer, SnapshotSealed(data))


def _own_seal(_node: str, _message: bytes, _signature: bytes) -> bool:
    return True
