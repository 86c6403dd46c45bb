"""The local HTTP server: binds, puts the guard before all routes, serves, stops."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from aiohttp import web

from peerinfer.api.actions import NodeActions
from peerinfer.api.admin import AdminRoutes
from peerinfer.api.body import BODY_MAX_BYTES
from peerinfer.api.events import EventRoutes
from peerinfer.api.guard import Guard
from peerinfer.api.openai import OpenAiRoutes
from peerinfer.api.sse import STALL_S
from peerinfer.api.state import StateRoutes
from peerinfer.config import Listen
from peerinfer.errors import ConfigInvalid, PortInUse
from peerinfer.pipeline.requests import ChatService

SHUTDOWN_S = 2.0
"""Answers under way get this long when the daemon stops."""
KEEP_ALIVE_S = 75.0
BACKLOG = 128
SEND_BUFFER_BYTES = 64 * 1024
"""The system's buffer per connection. Its default of megabytes would hold a whole answer for a client that does not
read, and a slot would never be freed for its sake."""


class ApiServer:
    """The API of one node, from `start` to `stop`."""

    def __init__(
        self,
        listen: Listen,
        token: str,
        chat: ChatService,
        actions: NodeActions,
        *,
        hosts: Iterable[str] = (),
        stall_s: float = STALL_S,
    ) -> None:
        """`hosts` are further `Host` headers to answer to; `stall_s` how long a client may take nothing."""
        self._listen = listen
        self._token = token
        self._hosts = tuple(hosts)
        self._admin = AdminRoutes(actions)
        self.events = EventRoutes(actions, stall_s)
        self._rooms = (OpenAiRoutes(chat, actions, stall_s), StateRoutes(actions), self.events, self._admin)
        self._runner: web.AppRunner | None = None
        self.bound = listen
        """Where it really listens, once started."""

    @property
    def address(self) -> str:
        """`host:port` at which this machine's own programs reach the API."""
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, not bound to)
        return str(Listen(own.get(self.bound.host, self.bound.host), self.bound.port))

    async def start(self) -> None:
        """Binds and serves. Raises `PortInUse`, or `ConfigInvalid` for an address that is not this machine's."""
        listener = bind(self._listen)
        host, port = listener.getsockname()[:2]
        self.bound = Listen(host, port)
        guard = Guard(self.bound, self._token, self._hosts)
        app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[guard.middleware])
        for room in self._rooms:
            app.add_routes(room.routes())
        # Cancelling the handler of a client that is gone is what frees the slots of its answer.
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=BACKLOG).start()

    async def stop(self) -> None:
        """Ends all requests and frees the port. Safe to call without `start`."""
        self.events.close()
        await self._admin.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def bind(listen: Listen) -> socket.socket:
    """A bound socket for `listen`. Raises `PortInUse` or `ConfigInvalid`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigInvalid(f"The API cannot listen on {listen}: {error.strerror or error}.") from None
    try:
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows, where SO_REUSEADDR would share the port
        listener.setsockopt(socket.SOL_SOCKET, exclusive or socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"The API's port {listen} is taken by another program (perhaps another peerinfer node): "
                "choose another one with --api HOST:PORT."
            ) from None
        raise ConfigInvalid(f"The API cannot listen on {listen}: {error.strerror or error}.") from None
    return listener
