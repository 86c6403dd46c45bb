"""One tokenizer for each model that this node takes requests for, opened when first needed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path

from peerinfer.engine.host import TokenizerHost
from peerinfer.errors import UnknownModel
from peerinfer.models.store import ModelStore

OPEN_MAX = 4
"""Tokenizer processes kept; the one unused for longest makes room."""


class TokenizerPool:
    """`gateway.Tokenizers` from the files of this node."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._open: OrderedDict[str, TokenizerHost] = OrderedDict()
        self._turn = asyncio.Lock()

    async def of(self, digest: str, model: str) -> TokenizerHost:
        """The opened tokenizer. Raises `UnknownModel` if this node lacks the model's file."""
        async with self._turn:
            host = self._open.get(digest)
            if host is None:
                host = TokenizerHost(await asyncio.to_thread(self._vocabulary, digest, model))
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

    def _vocabulary(self, digest: str, model: str) -> Path:
        entry = self._store.by_digest(digest)
        if entry is None:
            raise UnknownModel(
                f"This node needs the file of {model} for its vocabulary and does not have it. Copy it into this "
                "node's models folder, or ask a node that has it."
            )
        return self._store.vocabulary_file(entry)
