"""The dialer: keeps dialling candidates until every member that can be reached has a link."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from peerinfer.clock import Clock, monotonic
from peerinfer.errors import BadFrame, LinkError, NotTrusted, ProtocolMismatch
from peerinfer.net.address import is_ip_address, split_address
from peerinfer.net.candidates import Candidates, Failure, Means
from peerinfer.net.link_messages import PEERS_MAX, PeerAddress, PeerAddresses
from peerinfer.net.peer_book import PeerBook
from peerinfer.net.switchboard import Switchboard

IDLE_S: Final = 30.0
"""The longest pause between two looks at the candidates, whatever they say."""

Dial = Callable[[str], Awaitable[str]]
"""Makes a link with whoever takes links at an address and gives its node id: `Connector.dial`."""

log = logging.getLogger(__name__)


class Dialer:
    """Dials what `Candidates` says is due; tells peers each other's addresses, and remembers them in the book."""

    def __init__(self, switchboard: Switchboard, dial: Dial, book: PeerBook, clock: Clock = monotonic) -> None:
        self._switchboard = switchboard
        self._dial = dial
        self._book = book
        self._clock = clock
        chance = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not a secret
        self._candidates = Candidates(switchboard.own_id, switchboard.is_connected, chance)
        self._wake = asyncio.Event()
        self._dials: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._mismatched: set[str] = set()
        switchboard.on_peer(self._on_peer)
        switchboard.on(PeerAddresses, self._on_addresses)

    def start(self, given: Collection[str] = ()) -> None:
        """Begins to dial: the remembered addresses, and `given`, those that the user named (`host:port`).

        Raises `ValueError` with a sentence if a given one is not an address.
        """
        now = self._clock()
        for address in given:
            split_address(address)
            self._candidates.learn(address, Means.GIVEN, now)
        for node, addresses in self._book.load().items():
            for address in addresses:
                self._candidates.learn(address, Means.REMEMBERED, now, node)
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops dialling; links stay."""
        tasks = [*self._dials, *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._book.changed:
            await asyncio.to_thread(self._book.save)

    def found(self, address: str) -> None:
        """Takes an address that discovery found."""
        if is_ip_address(address):
            self._candidates.learn(address, Means.MDNS, self._clock())
            self._wake.set()

    def given(self, address: str) -> None:
        """Takes an address that the user, or a pairing, named while the node runs."""
        self._candidates.learn(address, Means.GIVEN, self._clock())
        self._wake.set()

    def reconsider(self) -> None:
        """Dials everything again soon: the machine woke, a network changed, or the roster did."""
        self._candidates.reconsider(self._clock())
        self._wake.set()

    def set_removed(self, nodes: Collection[str]) -> None:
        """Names all members that were removed from the mesh: they are forgotten and not dialled."""
        self._candidates.set_removed(nodes)
        self._book.forget(nodes)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            for address in self._candidates.take_due(self._clock()):
                task = asyncio.create_task(self._dial_one(address))
                self._dials.add(task)
                task.add_done_callback(self._dials.discard)
            if self._book.changed:
                await asyncio.to_thread(self._book.save)
            await self._pause()

    async def _pause(self) -> None:
        """Until the next dial is due, or something changed."""
        due = self._candidates.next_due()
        pause_s = IDLE_S if due is None else min(IDLE_S, due - self._clock())
        try:
            async with asyncio.timeout(max(0.0, pause_s)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _dial_one(self, address: str) -> None:
        try:
            node = await self._dial(address)
        except (NotTrusted, ProtocolMismatch, BadFrame) as error:
            self._report(address, error)
            self._candidates.failed(address, Failure.POINTLESS, self._clock())
        except (LinkError, ValueError) as error:
            log.debug("No link with %s: %s", address, error)
            self._candidates.failed(address, Failure.UNREACHABLE, self._clock())
        except Exception:
            log.exception("The dial to %s failed by a fault of this program.", address)
            self._candidates.failed(address, Failure.UNREACHABLE, self._clock())
        else:
            if node == self._switchboard.own_id:
                self._candidates.failed(address, Failure.POINTLESS, self._clock())
            else:
                self._candidates.linked(address, node, self._clock())
        finally:
            self._wake.set()

    def _report(self, address: str, error: LinkError) -> None:
        """A node of another version is worth a warning, once; strangers are many and are not."""
        if isinstance(error, ProtocolMismatch) and address not in self._mismatched:
            self._mismatched.add(address)
            log.warning("No link with %s: %s", address, error)
        else:
            log.debug("No link with %s: %s", address, error)

    def _on_peer(self, node: str, up: bool) -> None:
        now = self._clock()
        if not up:
            self._candidates.peer_lost(node, now)
        else:
            addresses = {other: facts.address for other, facts in self._switchboard.peers().items()}
            if is_ip_address(addresses[node]):  # else it takes no links
                self._candidates.learn(addresses[node], Means.REMEMBERED, now, node)
                self._book.remember(node, addresses[node])
            self._introduce(node, addresses)
        self._wake.set()

    def _introduce(self, node: str, addresses: dict[str, str]) -> None:
        """Tells a new peer the addresses of the others, and the others its address."""
        others = [PeerAddress(other, (address,)) for other, address in addresses.items() if other != node]
        newcomer = PeerAddresses((PeerAddress(node, (addresses[node],)),))
        try:
            self._switchboard.send(node, PeerAddresses(tuple(others[:PEERS_MAX])))
        except LinkError:
            return
        for other in others:
            try:
                self._switchboard.send(other.node, newcomer)
            except LinkError:
                continue

    def _on_addresses(self, sender: str, message: PeerAddresses) -> None:
        """Takes addresses that a peer told; it is a member, so they are worth a dial, but no trust."""
        now = self._clock()
        for peer in message.peers:
            for address in filter(is_ip_address, peer.addresses):
                self._candidates.learn(address, Means.HEARD, now, peer.node)
        log.debug("%s told addresses of %d peers.", sender[:8], len(message.peers))
        self._wake.set()
