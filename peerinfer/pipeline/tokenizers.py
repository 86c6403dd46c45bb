"""One tokenizer for each model that this node takes requests for, opened when first needed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from peerinfer.engine.host import TokenizerHost
from peerinfer.models.warehouse import Warehouse

OPEN_MAX = 4
"""Tokenizer processes kept; the one unused for longest makes room."""


class TokenizerPool:
    """`gateway.Tokenizers` from files here, or fetched from peers."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._open: OrderedDict[str, TokenizerHost] = OrderedDict()
        self._turn = asyncio.Lock()

    async def of(self, digest: str, model: str) -> TokenizerHost:
        """The opened tokenizer. Raises `ModelError` if no node gives its vocabulary."""
        async with self._turn:
            host = self._open.get(digest)
            if host is None:
                host = TokenizerHost(await self._warehouse.vocabulary_file(digest, model))
                while len(self._open) >= OPEN_MAX:
                    _, oldest = self._open.popitem(last=False)
                    await oldest.stop()
                self._open[digest] = host
            self._open.move_to_end(digest)
        await host.open()
        return host

    async def stop(self) -> None:
        """Ends all of them."""
        while self._open:
            await self._open.popitem()[1].stop()
