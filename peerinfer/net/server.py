"""Listens for peers: TLS with limits for strangers, then nothing but the link path."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from typing import Any, Final, cast

from aiohttp import web

from peerinfer.errors import ConfigInvalid, LinkError, NotTrusted, PortInUse
from peerinfer.net.address import join_address
from peerinfer.net.bulk import ANSWERS_MAX, BULK_PATH, BulkServer, check_peer
from peerinfer.net.connector import LINKS_MAX, Connector
from peerinfer.net.handshake import HANDSHAKE_TIMEOUT_S
from peerinfer.net.wire import CLOSE_TIMEOUT_S, LINK_PATH, MESSAGE_LIMIT, Wire

HANDSHAKES_MAX: Final = 16
"""TLS handshakes at once. The oldest makes room for a newer one: an honest peer needs milliseconds, so strangers who
only hold connections open cannot keep it out."""
CONNECTIONS_MAX: Final = LINKS_MAX + 2 * ANSWERS_MAX + 16
"""Connections past TLS: the links, those for bulk bytes, some that are being made, and a few of former members."""
BULK_IDLE_S: Final = 10.0
"""A connection for bulk bytes may wait so long for the next question."""
STRANGERS_MAX: Final = 4
"""Connections past TLS of nodes that are members no longer; the oldest makes room."""
ACCEPT_RETRY_S: Final = 0.2
"""After an accept that failed, as it does while the process is out of file descriptors."""

log = logging.getLogger(__name__)


class LinkServer:
    """The listening side of a `Connector`."""

    def __init__(self, connector: Connector, bulk: BulkServer | None = None) -> None:
        self._connector = connector
        self._bulk = bulk
        self._web: web.Server | None = None
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._idle: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._strangers: dict[asyncio.Transport, None] = {}
        """Connections of former members, the oldest first: each is told that it is refused, and no more."""
        self.port = 0
        """The port that is listened on; 0 before `start`."""

    async def start(self, host: str, port: int) -> int:
        """Listens on `host` and `port` (0: any free one) and gives the port. Raises `PortInUse`, `ConfigInvalid`."""
        self._listener = _listen(host, port)
        self._listener.setblocking(False)
        self.port = cast(int, self._listener.getsockname()[1])
        self._connector.listens_on(self.port)
        self._web = web.Server(self._answer, access_log=None, keepalive_timeout=BULK_IDLE_S)
        self._accepting = asyncio.create_task(self._accept_all(self._listener, self._web))
        return self.port

    async def close(self) -> None:
        """Stops listening and ends what came in; links say goodbye first if the connector was closed before."""
        tasks = [*self._handshakes, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener:
            self._listener.close()
        if self._web:
            await self._web.shutdown(CLOSE_TIMEOUT_S)
        for timer in self._idle.values():
            timer.cancel()

    async def _accept_all(self, listener: socket.socket, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("A connection could not be accepted (%s).", error)
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            task = asyncio.create_task(self._secure(connection, server))
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))
            if len(self._handshakes) > HANDSHAKES_MAX:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            await asyncio.sleep(0)  # lets the handshake begin: only one that has begun closes its socket if cancelled

    async def _secure(self, connection: socket.socket, server: web.Server) -> None:
        """The TLS handshake, in which a stranger is refused; then aiohttp takes over."""
        if len(server.connections) >= CONNECTIONS_MAX:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(
                server,
                connection,
                ssl=self._connector.trust.server_context(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.debug("A TLS handshake failed (%s).", error)
            return
        self._idle[transport] = loop.call_later(HANDSHAKE_TIMEOUT_S, self._cut, transport)
        try:
            self._connector.trust.peer_of(transport.get_extra_info("ssl_object"))
        except NotTrusted:  # TLS lets former members in as well; they take no place of a member's
            self._strangers[transport] = None
            if len(self._strangers) > STRANGERS_MAX:
                self._cut(next(iter(self._strangers)))

    def _cut(self, transport: asyncio.Transport) -> None:
        """Ends a connection that did not ask for a link in time."""
        self._idle.pop(transport, None)
        self._strangers.pop(transport, None)
        transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == BULK_PATH and self._bulk is not None and request.transport is not None:
            return await self._answer_bulk(request, request.transport, self._bulk)
        upgrade = web.WebSocketResponse(compress=False, max_msg_size=MESSAGE_LIMIT, timeout=CLOSE_TIMEOUT_S)
        transport = request.transport
        if transport is None or request.path != LINK_PATH or not upgrade.can_prepare(request):
            return web.Response(status=404)
        try:
            tls: Any = transport.get_extra_info("ssl_object")
            peer = self._connector.trust.peer_of(tls)
        except NotTrusted as error:
            self._connector.tell_refused(request.remote or "", error)
            return web.Response(status=403)
        if timer := self._idle.pop(transport, None):
            timer.cancel()
        await upgrade.prepare(request)
        await self._connector.accept(Wire(upgrade), peer)
        return upgrade

    async def _answer_bulk(
        self, request: web.BaseRequest, transport: asyncio.Transport, bulk: BulkServer
    ) -> web.StreamResponse:
        try:
            peer = check_peer(self._connector.trust, transport.get_extra_info("ssl_object"))
        except LinkError as error:
            return web.Response(status=403, text=str(error))
        if timer := self._idle.pop(transport, None):
            timer.cancel()
        return await bulk.answer(request, peer)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=LINKS_MAX)
    except OSError as error:
        where = join_address(host, port)
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortInUse(
                f"The port of {where} is taken by another program: stop that one, or choose another port "
                "with --listen HOST:PORT."
            ) from None
        raise ConfigInvalid(
            f"This machine cannot listen on {where} ({error.strerror or error}): choose an address it has "
            "with --listen HOST:PORT."
        ) from None
