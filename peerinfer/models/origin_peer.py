"""The hub as one more peer of a transfer: it has every tensor, and is asked when no node gives any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from peerinfer.errors import LinkDown, ProcessError
from peerinfer.models.exchange import bits_of, decode_question
from peerinfer.models.holdings import Dossier
from peerinfer.models.pull.origin import Origin, PieceQuestion
from peerinfer.net.messages import pack_fields
from peerinfer.packing import pack
from peerinfer.process.child import Child

ORIGIN: Final = "the hub"
"""Stands for it among the ids of peers, of which none has a blank."""
MODULE: Final = "peerinfer.models.pull.origin_worker"
MEMORY_BYTES: Final = 2 << 30
PIECE_DEADLINE_S: Final = 120.0
"""One chunk of 4 MiB over a very slow line."""
PIECE: Final = 1


class OriginPeer:
    """`fetch.Peers` of one: the hub's files of the model of `dossier`. `close` it."""

    def __init__(self, dossier: Dossier, origin: Origin) -> None:
        self._dossier = dossier
        self._origin = origin
        self._child: Child | None = None
        self._starting = asyncio.Lock()

    def peers(self) -> tuple[str, ...]:
        """Just the hub."""
        return (ORIGIN,)

    async def fetch(self, peer: str, question: bytes, max_bytes: int) -> bytes:  # noqa: ARG002  (there is one question)
        """That it has every tensor."""
        count = len(self._dossier.manifest.tensor_bytes)
        return bits_of(range(count), count)

    @asynccontextmanager
    async def ask(self, peer: str, question: bytes) -> AsyncGenerator[OriginStream]:  # noqa: ARG002  (there is one)
        """The chunks that `question` names, one after the other. Raises `LinkDown`."""
        yield OriginStream(self, decode_question(question).numbers)

    async def chunk(self, number: int) -> bytes:
        """One chunk, not verified. Raises `LinkDown`."""
        chunk = self._dossier.manifest.chunk(number)
        part, offset, _ = (int(value) for value in self._dossier.table[chunk.tensor])
        asked = PieceQuestion(self._origin.files[part], offset + chunk.offset, chunk.n_bytes)
        try:
            child = await self._running()
            return await child.call(PIECE, pack(pack_fields(asked)), deadline_s=PIECE_DEADLINE_S)
        except ProcessError as error:
            raise LinkDown(str(error)) from None

    async def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop(grace_s=0.0)

    async def _running(self) -> Child:
        async with self._starting:
            if self._child is None or not self._child.alive:
                self._child = await Child.start(MODULE, "reader of the hub", memory_limit_bytes=MEMORY_BYTES)
            return self._child


class OriginStream:
    """Chunks in the order in which they were asked for, a chunk at a time."""

    def __init__(self, peer: OriginPeer, numbers: tuple[int, ...]) -> None:
        self._peer = peer
        self._numbers = iter(numbers)

    async def readany(self) -> bytes:
        """The next chunk; no bytes after the last."""
        number = next(self._numbers, None)
        return b"" if number is None else await self._peer.chunk(number)
