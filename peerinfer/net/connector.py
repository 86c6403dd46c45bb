"""Makes links: dials and accepts connections, and sees to it that there is one link per pair of nodes."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

import aiohttp

from peerinfer.clock import monotonic_us
from peerinfer.errors import DuplicateLink, LinkDown, LinkError, NotTrusted, OutdatedCertificate, ProtocolMismatch
from peerinfer.names import clean_name
from peerinfer.net.address import join_address, split_address
from peerinfer.net.authority_messages import RotatedAuthority
from peerinfer.net.handshake import renew, say_goodbye, shake_hands
from peerinfer.net.link import ClockUs, Link
from peerinfer.net.link_messages import PROTOCOL, GoodbyeReason, Hello
from peerinfer.net.switchboard import Switchboard
from peerinfer.net.wire import CLOSE_TIMEOUT_S, LINK_PATH, MESSAGE_LIMIT, Wire

DIAL_TIMEOUT_S: Final = 5.0
"""From the TCP connect to the peer's ack."""
LINKS_MAX: Final = 64
"""Links of one node: twice the mesh for which a full mesh of links is meant."""
SERVER_NAME: Final = "peerinfer"
"""The name in the TLS greeting, which is readable on the wire: the same for all, so that no host name is told."""

_ws_timeout: Any = aiohttp.ClientWSTimeout  # an attrs class whose parameters no type checker sees
_close_timeout: aiohttp.ClientWSTimeout = _ws_timeout(ws_close=CLOSE_TIMEOUT_S)

log = logging.getLogger(__name__)


class Trust(Protocol):
    """Who this node is and whom it trusts."""

    node_id: str
    mesh_id: str

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3, certificates required from both sides."""
        ...

    def client_context(self) -> ssl.SSLContext:
        """TLS 1.3, certificates required from both sides; server names are not checked."""
        ...

    def peer_of(self, ssl_object: ssl.SSLObject) -> str:
        """The node id in the verified certificate of the peer. Raises `NotTrusted` if it is not on the roster."""
        ...

    def is_current(self, ssl_object: ssl.SSLObject) -> bool:
        """Whether the peer's certificate is from the very CA of the mesh that this node holds."""
        ...

    def authority_for(self, peer: str) -> RotatedAuthority:
        """This node's CA, to be sent to `peer` now. Raises `NotTrusted` if it is not on the roster."""
        ...

    def take_authority(self, peer: str, message: RotatedAuthority) -> None:
        """Takes over the CA that a member gave, if it holds and ranks higher."""
        ...


class Connector:
    """Turns connections into links of the switchboard.

    One link per pair: the node with the smaller id decides, because only one of the two can. It claims a peer for
    its own dial as soon as TLS tells who is there, so of two dials at once its own wins; it refuses a further
    connection while the link it has is claimed or proves alive, and takes it if that link is dead or the peer has
    restarted. The other node follows: what its peer acknowledges replaces what it has.
    """

    def __init__(
        self,
        trust: Trust,
        switchboard: Switchboard,
        name: str,
        incarnation: int,
        *,
        clock_us: ClockUs = monotonic_us,
        protocol: int = PROTOCOL,
    ) -> None:
        self.trust = trust
        self.on_refused: Callable[[str, LinkError], None] | None = None
        """Told of each incoming connection refused by `NotTrusted` or `ProtocolMismatch`: the peer's host, and why."""
        self._own = Hello(protocol, trust.mesh_id, trust.node_id, incarnation, clean_name(name), 0)
        self._switchboard = switchboard
        self._clock_us = clock_us
        self._claims: dict[str, Wire] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def listens_on(self, port: int) -> None:
        """Says from now on in each hello that this node takes links on `port`."""
        self._own = replace(self._own, port=port)

    async def dial(self, address: str) -> str:
        """The node id of who takes links at `address`: this node's own, or one with which there is a link now.

        Raises `NotTrusted`, `ProtocolMismatch`, `OutdatedCertificate`, `BadFrame` or `LinkDown`. A new link is served
        in the background.
        """
        try:
            return await self._dial_once(address)
        except OutdatedCertificate as error:
            log.debug("%s: %s", address, error)
        return await self._dial_once(address)  # one of the two has another certificate now

    async def _dial_once(self, address: str) -> str:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S), AsyncExitStack() as opened:
                wire = await self._connect(address, opened)
                peer = self.trust.peer_of(wire.ssl_object)
                if peer == self._own.node:
                    return peer
                try:
                    link = await self._make_link(wire, peer, address)
                except DuplicateLink as error:
                    log.debug("The dial to %s made no second link: %s", address, error)
                    return peer
                self._serve_in_background(link, opened.pop_all())
                return peer
        except TimeoutError:
            raise LinkDown(f"{address} did not answer within {DIAL_TIMEOUT_S:g} s.") from None

    async def accept(self, wire: Wire, peer: str) -> None:
        """Makes and serves a link with `peer`, which dialled this node, until it ends."""
        try:
            await self._serve(await self._make_link(wire, peer, None))
        except LinkError as error:
            self.tell_refused(wire.remote_host, error)
        finally:
            await wire.close()

    def tell_refused(self, host: str, error: LinkError) -> None:
        """Reports an incoming connection from `host` that became no link."""
        log.debug("A connection from %s became no link: %s", host, error)
        if self.on_refused and isinstance(error, NotTrusted | ProtocolMismatch):
            self.on_refused(host, error)

    async def close(self) -> None:
        """Ends all links, telling the peers that this node leaves."""
        for node in self._switchboard.peers():
            self._switchboard.disconnect(node, GoodbyeReason.LEAVING, "That node shuts down.")
        if self._serving:
            await asyncio.wait(self._serving)

    async def _connect(self, address: str, opened: AsyncExitStack) -> Wire:
        """A WebSocket with `address`; `opened` closes it and what it needs."""
        host, port = split_address(address)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.trust.client_context(), force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        await opened.enter_async_context(session)
        try:
            socket = await session.ws_connect(
                f"wss://{join_address(host, port)}{LINK_PATH}",
                server_hostname=SERVER_NAME,
                max_msg_size=MESSAGE_LIMIT,
                timeout=_close_timeout,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _dial_error(address, error) from None
        wire = Wire(socket)
        opened.push_async_callback(wire.close)
        return wire

    async def _make_link(self, wire: Wire, peer: str, dialled: str | None) -> Link:
        """The link over `wire`, in use by the switchboard; `dialled` is the address if this node dialled."""
        take = partial(self.trust.take_authority, peer)
        if not self.trust.is_current(wire.ssl_object):
            raise await renew(wire, self._authority_for(wire, peer), take)

        async def consent(hello: Hello) -> None:
            if not self._switchboard.is_connected(peer) and len(self._switchboard.peers()) >= LINKS_MAX:
                raise LinkDown(f"The node has {LINKS_MAX} links already, which is its limit.")
            if not dialled:
                await self._claim(peer, wire, hello.incarnation)

        try:
            if dialled:
                await self._claim(peer, wire)
            hello = await shake_hands(wire, self._own, peer, consent, take)
            self.trust.peer_of(wire.ssl_object)  # it may have been removed while the hello was under way
            port = split_address(dialled)[1] if dialled else hello.port
            hello = replace(hello, name=clean_name(hello.name))
            address = join_address(wire.remote_host, port)
            link = Link(wire, hello, address, dialled is not None, self._switchboard, clock_us=self._clock_us)
            self._switchboard.attach(link)
        finally:
            if self._claims.get(peer) is wire:
                del self._claims[peer]
        return link

    def _authority_for(self, wire: Wire, peer: str) -> RotatedAuthority:
        """This node's CA for a peer that was a member when it connected. Raises `NotTrusted` if it is none now."""
        try:
            return self.trust.authority_for(peer)
        except NotTrusted as error:
            say_goodbye(wire, error)
            raise

    async def _claim(self, peer: str, wire: Wire, incarnation: int = 0) -> None:
        """Reserves the place of the one link with `peer` for `wire`. Raises `DuplicateLink` if it is not free.

        `incarnation` is the peer's, if it is known: a link with an earlier one is dead.
        """
        if self._own.node > peer:
            return
        if peer in self._claims:
            raise DuplicateLink("Another connection between the two nodes is being made.")
        self._claims[peer] = wire
        former = self._switchboard.link_with(peer)
        if former and former.peer.incarnation >= incarnation and await former.proves_alive():
            raise DuplicateLink("The two nodes have a link already.")

    def _serve_in_background(self, link: Link, opened: AsyncExitStack) -> None:
        async def serve() -> None:
            async with opened:
                await self._serve(link)

        task = asyncio.create_task(serve())
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            self._switchboard.detach(link)


def _dial_error(address: str, error: Exception) -> LinkError:
    """What a failed dial means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return NotTrusted(f"The TLS handshake with {address} failed: it is not of this mesh, or this node is not.")
        cause = getattr(cause, "os_error", None) or cause.__cause__
    if isinstance(error, aiohttp.WSServerHandshakeError):
        if error.status == 403:
            return NotTrusted(f"The node at {address} does not count this node as a member of its mesh.")
        return LinkDown(f"{address} answers, but not as a peerinfer node.")
    return LinkDown(f"{address} cannot be reached ({error or type(error).__name__}).")
