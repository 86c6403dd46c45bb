"""Nodes with model stores on loopback, linked by real TLS, for tests of what travels between them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from peerinfer.clock import monotonic
from peerinfer.models.exchange import Wanted, decode_question
from peerinfer.models.store import ModelEntry, ModelStore
from peerinfer.models.warehouse import Warehouse
from peerinfer.net.bulk import Stream
from tests.net.mesh import Authority, Node, mesh_of, node_id, until
from tests.tiny import write_tiny_llama

LAYERS = 6
CHUNK = 16_384
"""Bytes of a chunk in tests that use the fixture `quick_and_small`."""

Spoil = Callable[[bytes, int], bytes]
"""Given a piece and its number among all pieces of weights, what is sent instead."""


class ModelNode:
    """One node: its home, and what it gave to others."""

    def __init__(self, folder: Path, number: int, authority: Authority, limit_bytes: int = 0) -> None:
        self.home = folder / f"node{number}"
        (self.home / "models").mkdir(parents=True, exist_ok=True)
        self.store = ModelStore(self.home, bundled=False)
        self.warehouse = Warehouse(self.home, self.store, monotonic, limit_bytes)
        self.net = Node(authority.trust(node_id(number)), handler=self._answer)
        self.warehouse.library.peers = self.net.bulk
        self.given = Counter[Wanted]()
        """Bytes given, by what was asked for."""
        self.spoil: Spoil = lambda piece, _: piece
        self.pieces = 0

    def _answer(self, peer: str, data: bytes) -> Stream:
        stream = self.warehouse.giver.answer(peer, data)
        return Stream(stream.n_bytes, self._counted(decode_question(data).wanted, stream.pieces))

    async def _counted(self, wanted: Wanted, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.given[wanted] += len(piece)
            if wanted is Wanted.CHUNKS:
                self.pieces += 1
                yield self.spoil(piece, self.pieces)
            else:
                yield piece


@asynccontextmanager
async def house_of(folder: Path, count: int, limit_bytes: int = 0) -> AsyncGenerator[list[ModelNode]]:
    """`count` nodes, all linked with each other."""
    authority = Authority()
    nodes = [ModelNode(folder, number + 1, authority, limit_bytes) for number in range(count)]
    async with mesh_of(*(node.net for node in nodes)):
        for node, other in itertools.combinations(nodes, 2):
            await node.net.connector.dial(other.net.address)
            await until(lambda node=node, other=other: other.net.board.is_connected(node.net.id))
        try:
            yield nodes
        finally:
            for node in nodes:
                await node.store.stop()


async def model_on(node: ModelNode, *, tied: bool = False) -> ModelEntry:
    write_tiny_llama(node.home / "models" / "tiny.gguf", layers=LAYERS, width=128, tied=tied)
    return await node.store.find("tiny")


async def stage(node: ModelNode, entry: ModelEntry, first: int, last: int, holder: str = "h") -> Path:
    files = await node.warehouse.stage_files(holder, entry.digest, "tiny", (first, last), lambda _: None)
    return files.shard
