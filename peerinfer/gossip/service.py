"""The door of gossip: drives the machine from the event loop, and does what it asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol

from peerinfer.clock import Clock, monotonic
from peerinfer.errors import LinkError
from peerinfer.gossip.effects import Effects, SaveIncarnation, SnapshotLearned, SnapshotRefused
from peerinfer.gossip.envelope import Verify
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.machine import Gossip
from peerinfer.gossip.messages import MESSAGES
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.gossip.snapshot_codec import encode_snapshot
from peerinfer.gossip.table import SnapshotTable
from peerinfer.net.effects import SendTo

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""How often time passes for the machine: half of a heartbeat's period, and the least time between two pushes."""

Learned = Callable[[str, Snapshot], None]


class Signer(Protocol):
    """This node's identity, as far as gossip needs it."""

    @property
    def node_id(self) -> str: ...
    @property
    def mesh_id(self) -> str: ...
    def sign(self, data: bytes, /) -> bytes: ...


class Counter(Protocol):
    """The durable incarnation (`gossip/storage.py`)."""

    @property
    def value(self) -> int: ...
    def save(self, value: int, /) -> None: ...


class Facts(Protocol):
    """What gossip needs to know of the link with a peer."""

    @property
    def incarnation(self) -> int: ...
    @property
    def last_heard(self) -> float: ...


class Wires(Protocol):
    """The switchboard, as far as gossip needs it."""

    def send(self, to: str, message: Any, /) -> Any: ...
    def on(self, kind: type[Any], handler: Callable[[str, Any], None], /) -> Any: ...
    def on_peer(self, handler: Callable[[str, bool], None], /) -> Any: ...
    def peers(self) -> Mapping[str, Facts]: ...


class GossipService:
    """This node's gossip over `wires`. `run` drives it; everything else is called from the event loop.

    `members` gives the node ids of the roster as it is now, `compose` this node's snapshot; `clock` is the one by
    which the links tell when they heard their peers.
    """

    def __init__(
        self,
        identity: Signer,
        verify: Verify,
        incarnation: Counter,
        wires: Wires,
        compose: Callable[[], Snapshot],
        *,
        members: Callable[[], Collection[str]],
        clock: Clock = monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._incarnation = incarnation
        self._unsaved: int | None = None
        self._wires = wires
        self._members = members
        self._clock = clock
        self._changed = asyncio.Event()
        self._listeners: list[Learned] = []
        self._machine = Gossip(
            identity.node_id,
            identity.mesh_id,
            incarnation.value,
            sign=identity.sign,
            verify=verify,
            compose=lambda: encode_snapshot(compose()),
            chance=chance or random.Random(),  # noqa: S311  (it spreads load; nothing secret hangs on it)
            now=clock(),
        )
        for kind in MESSAGES:
            wires.on(kind, self._received)
        wires.on_peer(self._peer_changed)

    @property
    def table(self) -> SnapshotTable:
        """The newest snapshot of every member."""
        return self._machine.table

    def liveness(self, node: str) -> Liveness:
        """How `node` stands now, as of the last `look`."""
        return self._machine.liveness(node, self._clock())

    def was_heard(self, node: str) -> bool:
        """Whether `node` was heard over its own link, ever since this node started."""
        return self._machine.was_heard(node)

    def direct(self) -> frozenset[str]:
        """The nodes heard over their own links lately, without this one."""
        return self._machine.direct()

    def on_snapshot(self, listener: Learned) -> None:
        """Calls `listener(node id, snapshot)` for each new snapshot, this node's own included."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Lets time pass for the machine until cancelled. Raises `HomeError` if the incarnation cannot be saved."""
        while True:
            self.tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            self._changed.clear()

    def tick(self) -> None:
        """Looks who is connected, and lets the time since the last tick pass for the machine."""
        self.look()
        self._carry_out(self._machine.tick(self._clock()))

    def look(self) -> None:
        """Tells the machine who is connected and a member now, and when each was heard last."""
        peers = self._wires.peers()
        self._carry_out(self._machine.see(peers, self._members(), self._clock()))
        for node, facts in peers.items():
            self._carry_out(self._machine.heard(node, facts.incarnation, facts.last_heard))

    def announce(self) -> None:
        """Something changed: tell the peers soon (at most every `machine.PUSH_GAP_S`)."""
        self._carry_out(self._machine.announce())
        self._changed.set()

    def push(self) -> None:
        """Sends this node's snapshot as it is now to its peers, without waiting for `run`."""
        self._carry_out(self._machine.push(self._clock()))

    def farewell(self) -> None:
        """Tells the peers that this node stops or goes to sleep; then it says no more until `wake`."""
        self._carry_out(self._machine.farewell(self._clock()))

    def wake(self) -> None:
        """This node slept or stood still: it accuses nobody for a while, and speaks again."""
        self._carry_out(self._machine.wake(self._clock()))
        self._changed.set()

    def _peer_changed(self, peer: str, up: bool) -> None:
        if up:
            self.look()
            self._carry_out(self._machine.peer_up(peer, self._clock()))

    def _received(self, sender: str, message: object) -> None:
        self._carry_out(self._machine.receive(sender, message, self._clock()))

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            self._save()
            match effect:
                case SaveIncarnation(value):
                    self._unsaved = value
                    self._save()
                case SendTo(node, message):
                    with contextlib.suppress(LinkError):  # the link is just going down: its return brings all again
                        self._wires.send(node, message)
                case SnapshotLearned(node, snapshot):
                    for listener in self._listeners:
                        listener(node, snapshot)
                case SnapshotRefused(sender, reason):
                    log.warning("A snapshot from %s was refused. %s", sender, reason)

    def _save(self) -> None:
        """Puts a new incarnation on disk; while that fails, this raises, and nothing at all is told."""
        if self._unsaved is not None:
            self._incarnation.save(self._unsaved)
            self._unsaved = None
