"""Server-sent events with back-pressure: what the client does not take is not gathered up, and not for ever."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

STALL_S = 30.0
"""How long a client may take nothing before its stream is cut: a model's slot waits behind it."""
WRITE_BUFFER_BYTES = 16 * 1024
"""What waits in this process before a write has to wait: some sixty tokens' events."""
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}


class ClientLost(Exception):
    """The client went away, or took nothing for too long. Nothing more can be told to it."""


class EventStream:
    """The response to one request, sent event by event. Use as `async with`: the headers go out at once."""

    def __init__(self, request: web.Request, stall_s: float = STALL_S) -> None:
        self.response = web.StreamResponse(headers=_HEADERS)
        self._request = request
        self._protocol = request.protocol
        self._stall_s = stall_s
        self._writer: AbstractStreamWriter | None = None

    async def __aenter__(self) -> EventStream:
        transport = self._request.transport
        if transport is not None:
            transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._writer = await self.response.prepare(self._request)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Ends the body, or cuts the connection of a lost client; `ClientLost` goes no further."""
        if error is None:
            try:
                async with asyncio.timeout(self._stall_s):
                    await self.response.write_eof()
                return False
            except (ConnectionError, TimeoutError):
                self.cut()
                return False
        self.cut()
        return kind is ClientLost

    async def send(self, event: bytes) -> None:
        """Writes a whole event, and waits while the client is behind. Raises `ClientLost`."""
        try:
            async with asyncio.timeout(self._stall_s):
                await self.response.write(event)
                if self._protocol.writing_paused and self._writer is not None:
                    await self._writer.drain()
        except (ConnectionError, TimeoutError):
            raise ClientLost from None

    def cut(self) -> None:
        """Ends the connection at once, with whatever it has not taken."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()


def event_of(body: object) -> bytes:
    """`body` as the data of one event."""
    return f"data: {json.dumps(body)}\n\n".encode()


def numbered_event(name: str, number: int, data: str) -> bytes:
    """An event with a name and an id; `data` is one line."""
    return f"event: {name}\nid: {number}\ndata: {data}\n\n".encode()
