"""Bulk bytes between members, beside the links: one question, one stream of bytes as the answer.

A message on a link cannot be interleaved, so large answers have connections of their own, to the port that takes
links, under the same TLS and the same roster. What questions mean is the handler's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
from aiohttp import web
from aiohttp.connector import Connection

from peerinfer.errors import BadFrame, LinkDown, NotTrusted, OutdatedCertificate, PeerinferError
from peerinfer.net.address import join_address, split_address
from peerinfer.net.connector import SERVER_NAME, Trust
from peerinfer.net.switchboard import Switchboard

BULK_PATH: Final = "/peerinfer/bulk"
QUESTION_MAX_BYTES: Final = 64 * 1024
ANSWERS_MAX: Final = 16
"""Streams that a node gives at once."""
ANSWERS_PER_PEER_MAX: Final = 4
"""Streams that one peer takes at once."""
CONNECT_TIMEOUT_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 15.0
"""Between two pieces of an answer; a throttled peer still sends several a second."""
WRITE_BYTES: Final = 256 * 1024
"""Handed on at once."""
WRITE_TIMEOUT_S: Final = 30.0
"""For so many bytes to be taken by the peer: who does not read is cut."""
READ_BUFFER_BYTES: Final = 1 << 20
"""Read ahead of whoever takes the pieces."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer: how long it is, and its bytes."""

    n_bytes: int
    pieces: AsyncIterator[bytes]


Handler = Callable[[str, bytes], "Stream"]
"""Takes the asking peer's node id and the question. Raises a `PeerinferError` for "no"."""


class BulkServer:
    """Answers the questions of peers. The server of links hands it the requests that are for it."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._running = Counter[str]()

    async def answer(self, request: web.BaseRequest, peer: str) -> web.StreamResponse:
        """The response to a verified peer's request."""
        if self._running.total() >= ANSWERS_MAX or self._running[peer] >= ANSWERS_PER_PEER_MAX:
            return web.Response(status=429, text="This node gives as many streams as it can at once.")
        self._running[peer] += 1
        try:
            return await self._stream(request, peer)
        finally:
            self._running[peer] -= 1

    async def _stream(self, request: web.BaseRequest, peer: str) -> web.StreamResponse:
        length = request.content_length or 0
        if request.method != "POST" or not 0 < length <= QUESTION_MAX_BYTES:
            return web.Response(status=400, text="A question is a short POST.")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                question = await request.content.readexactly(length)
            stream = self._handler(peer, question)
        except (TimeoutError, asyncio.IncompleteReadError):
            return web.Response(status=408, text="The question did not arrive in time.")
        except PeerinferError as error:
            return web.Response(status=404, text=str(error))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = stream.n_bytes
        await response.prepare(request)
        try:
            sent = 0
            async for piece in stream.pieces:
                await _write(response, piece)
                sent += len(piece)
            if sent != stream.n_bytes:
                raise LinkDown("What was to be sent is not all there any more.")
            await response.write_eof()
        except (OSError, TimeoutError, PeerinferError) as error:  # too late for a status: the stream just ends short
            log.info("A stream for %s was cut (%s).", peer[:8], error or type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        return response


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    view = memoryview(piece)
    for start in range(0, len(view), WRITE_BYTES):
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(view[start : start + WRITE_BYTES])


class _Answer(aiohttp.ClientResponse):
    """Remembers its TLS session: a short answer has let go of its connection before anybody can look."""

    tls: Any = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Reads status and headers."""
        if connection.transport is not None:
            self.tls = connection.transport.get_extra_info("ssl_object")
        return await super().start(connection)


class BulkClient:
    """Asks connected peers. Use `async with`, or `close` it."""

    def __init__(self, trust: Trust, switchboard: Switchboard) -> None:
        self._trust = trust
        self._switchboard = switchboard
        self._session: aiohttp.ClientSession | None = None
        self._context: object = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def peers(self) -> tuple[str, ...]:
        """The peers that can be asked now."""
        return tuple(self._switchboard.peers())

    @asynccontextmanager
    async def ask(self, peer: str, question: bytes) -> AsyncGenerator[aiohttp.StreamReader]:
        """The stream that answers; it ends early only with an error. Raises `LinkError`; `LinkDown` for a "no"."""
        facts = self._switchboard.peers().get(peer)
        if facts is None or self._is_closed:
            raise LinkDown(f"There is no link with the node {peer[:8]} at the moment.")
        url = f"https://{join_address(*split_address(facts.address))}{BULK_PATH}"
        try:
            asking = self._client().post(url, data=question, server_hostname=SERVER_NAME, allow_redirects=False)
            async with asking as response:
                self._check(response, peer)
                if response.status != 200:
                    raise LinkDown((await response.content.read(500)).decode("utf-8", "replace"))
                yield response.content
        except TimeoutError:
            raise LinkDown(f"The node {peer[:8]} fell silent.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise LinkDown(f"The stream from {peer[:8]} broke ({error or type(error).__name__}).") from None

    async def fetch(self, peer: str, question: bytes, max_bytes: int) -> bytes:
        """The whole answer. Raises `LinkError`, `BadFrame` for one over `max_bytes`."""
        parts: list[bytes] = []
        size = 0
        async with self.ask(peer, question) as stream:
            async for piece in stream.iter_any():
                size += len(piece)
                if size > max_bytes:
                    raise BadFrame(f"The node {peer[:8]} answered with more than {max_bytes} bytes.")
                parts.append(piece)
        return b"".join(parts)

    async def close(self) -> None:
        """Ends all connections; none is made from now on."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _client(self) -> aiohttp.ClientSession:
        """A session under the mesh's CA of today; streams of a former one break, and are asked for again."""
        context = self._trust.client_context()
        if self._session is None or context is not self._context:
            former, self._session = (
                self._session,
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context, limit_per_host=ANSWERS_PER_PEER_MAX),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
                    ),
                    read_bufsize=READ_BUFFER_BYTES,
                    auto_decompress=False,
                    response_class=_Answer,
                ),
            )
            self._context = context
            if former is not None:
                task = asyncio.get_running_loop().create_task(former.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return self._session

    def _check(self, response: aiohttp.ClientResponse, peer: str) -> None:
        """Raises a `LinkError` unless the other end is `peer`, a member, with a certificate of today."""
        check_peer(self._trust, cast(_Answer, response).tls, peer)


def check_peer(trust: Trust, tls: Any, peer: str = "") -> str:
    """The peer behind `tls`. Raises a `LinkError` unless it is a member now, up to date, and `peer` if given."""
    found = trust.peer_of(tls)
    if peer and found != peer:
        raise NotTrusted(f"Another node answers at the address of {peer[:8]}.")
    if not trust.is_current(tls):
        raise OutdatedCertificate("The two nodes hold different CAs of the mesh at the moment.")
    return found
