"""`GET /peerinfer/events`: the state of the mesh, then every change of it, as server-sent events.

The first event is `state`: all of it, with the number of the last change in it as its `id`. Each further one is a
`change`, a JSON object with a `type`, numbered without gaps; a comment every 15 s shows that the daemon lives. Who
reads too slowly is cut off; when this node stops or goes to another mesh, the stream ends. Either way a reader
connects anew and begins with a fresh `state`; `Last-Event-ID` means nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

from aiohttp import web

from peerinfer.api.actions import NodeActions
from peerinfer.api.sse import STALL_S, ClientLost, EventStream, numbered_event
from peerinfer.control.codec import encode_event, encode_state
from peerinfer.control.events import ClusterEvent
from peerinfer.errors import Unavailable

PATH: Final = "/peerinfer/events"
READERS_MAX: Final = 16
"""Terminals, web pages and scripts of one machine; each costs a socket and a queue."""
QUEUE_MAX: Final = 1024
"""Events that a reader may be behind. The largest burst is a mesh of 256 members that are all new at once: each
appears, tells its snapshot and has a link. The events in all queues are the same objects."""
KEEP_ALIVE_S: Final = 15.0
"""Proxies and clients give up a stream that is silent for half a minute or so."""
_KEEP_ALIVE: Final = b": keep-alive\n\n"

Numbered = tuple[int, ClusterEvent]


class EventReader:
    """One reader's place in the stream: what happened waits here until its connection takes it."""

    def __init__(self, cut: Callable[[], None]) -> None:
        """`cut` ends the connection at once."""
        self.waiting: deque[Numbered] = deque()
        self._cut = cut
        self._news = asyncio.Event()
        self._is_lost = False
        self._is_over = False

    def told(self, number: int, event: ClusterEvent) -> None:
        """See `Follower`. With a full queue the reader is cut off, and what waited is let go."""
        if self._is_lost:
            return
        if len(self.waiting) >= QUEUE_MAX:
            self._is_lost = True
            self.waiting.clear()
            self._cut()
        else:
            self.waiting.append((number, event))
        self._news.set()

    def ended(self) -> None:
        """See `Follower`. What waits is still given out."""
        self._is_over = True
        self._news.set()

    async def ready(self, patience_s: float) -> bool:
        """Waits for news, at most `patience_s`; False once there is nothing more to give out and never will be.

        Raises `ClientLost` if the reader was cut off.
        """
        if not self.waiting and not self._is_lost and not self._is_over:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._news.wait()
        if self._is_lost:
            raise ClientLost
        return bool(self.waiting) or not self._is_over


class EventRoutes:
    """The stream, for at most `READERS_MAX` readers at once."""

    def __init__(self, actions: NodeActions, stall_s: float = STALL_S) -> None:
        """`stall_s` is how long a reader may take nothing at all."""
        self.readers: set[EventReader] = set()
        self._actions = actions
        self._stall_s = stall_s
        self._is_closed = False
        self._encoded: tuple[ClusterEvent | None, bytes] = (None, b"")

    def routes(self) -> list[web.RouteDef]:
        """The routes of this room."""
        return [web.get(PATH, self._events, allow_head=False)]

    def close(self) -> None:
        """Ends all streams: the daemon stops."""
        self._is_closed = True
        for reader in self.readers:
            reader.ended()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._is_closed:
            raise Unavailable("This node is just stopping.")
        if len(self.readers) >= READERS_MAX:
            raise Unavailable(f"{READERS_MAX} programs follow this node's events already: end one of them first.")
        chronicle = self._actions.chronicle
        stream = EventStream(request, self._stall_s)
        reader = EventReader(stream.cut)
        self.readers.add(reader)
        try:
            async with stream:
                number, state = chronicle.follow(reader)
                await stream.send(numbered_event("state", number, encode_state(state)))
                await self._give_out(reader, stream)
        finally:
            chronicle.leave(reader)
            self.readers.discard(reader)
        return stream.response

    async def _give_out(self, reader: EventReader, stream: EventStream) -> None:
        while await reader.ready(KEEP_ALIVE_S):
            await stream.send(self._bytes_of(*reader.waiting.popleft()) if reader.waiting else _KEEP_ALIVE)

    def _bytes_of(self, number: int, event: ClusterEvent) -> bytes:
        """The event as it is sent; made once for readers that are equally far."""
        if self._encoded[0] is not event:
            self._encoded = (event, numbered_event("change", number, encode_event(event)))
        return self._encoded[1]
