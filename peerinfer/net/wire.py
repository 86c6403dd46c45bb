"""One aiohttp WebSocket over TLS, seen as a stream of binary messages that can be written without waiting."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, cast

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from peerinfer.errors import BadFrame, LinkDown
from peerinfer.net.frames import FRAME_MAX_BYTES

LINK_PATH: Final = "/peerinfer/link"
MESSAGE_LIMIT: Final = FRAME_MAX_BYTES + 1
"""aiohttp refuses a message of its limit's length, so the limit is one above the greatest frame."""
WRITE_BUFFER_BYTES: Final = 64 * 1024
"""Bytes the transport may hold before it asks for a pause: a control message waits behind no more than these and
one frame (5 ms at 100 Mbit/s)."""
CLOSE_TIMEOUT_S: Final = 1.0
"""For the closing handshake; after it the connection is cut."""


class Wire:
    """Binary messages over one WebSocket of either side.

    aiohttp keeps the transport, whether it asks for a pause, and the plain write of one message in the socket's
    writer, which it does not hand out; this class is the only place that reaches for it.
    """

    __slots__ = ("_socket", "_transport", "_writer")

    def __init__(self, socket: web.WebSocketResponse | ClientWebSocketResponse) -> None:
        self._socket = socket
        internals: Any = socket
        self._writer: Any = internals._writer
        self._transport = cast(asyncio.Transport, self._writer.transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The TLS session, for its verified peer certificate."""
        return cast(ssl.SSLObject, self._transport.get_extra_info("ssl_object"))

    @property
    def remote_host(self) -> str:
        """The peer's IP address."""
        name: Any = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def paused(self) -> bool:
        """Whether the transport holds more than it should: wait for `drained` before the next write."""
        return bool(self._writer.protocol.writing_paused)

    async def drained(self) -> None:
        """Waits until the transport takes more. Returns, too, when the connection has ended."""
        try:
            await self._writer.protocol._drain_helper()
        except ConnectionError:
            return  # the next write says so

    def write(self, data: bytes) -> None:
        """Hands one message to the transport, which sends at once what the socket takes. Raises `LinkDown`.

        aiohttp's own `send_bytes` may wait for a paused transport; callers here look at `paused` first.
        """
        try:
            self._writer._write_websocket_frame(data, WSMsgType.BINARY, 0)
        except (ConnectionError, RuntimeError):
            raise LinkDown("The connection to the peer has ended.") from None

    async def receive(self) -> bytes | None:
        """The next message; None at the end of the connection. Raises `BadFrame` for what is not a binary message."""
        received: Any = await self._socket.receive()
        if received.type is WSMsgType.BINARY:
            return cast(bytes, received.data)
        if received.type is WSMsgType.TEXT:
            raise BadFrame("The peer sent a text message, which this protocol does not have.")
        if received.type is WSMsgType.ERROR and not isinstance(received.data, OSError):
            raise BadFrame(f"The peer sent bytes that are not a valid message: {received.data}.")
        return None

    async def close(self) -> None:
        """Ends the connection: politely if the peer answers in time, else at once."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close()
        except (TimeoutError, ConnectionError, RuntimeError):
            pass
        finally:
            self._transport.abort()
