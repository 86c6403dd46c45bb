"""The daemon's side of the child that reads model files: limits of time and memory, started when needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from peerinfer.errors import CorruptModel, ModelError, PeerinferError, ProcessError, error_from_code
from peerinfer.models.inspection import INSPECT, LAYOUT, Inspection, Question, WantedLayout
from peerinfer.models.layout import Layout
from peerinfer.models.shards import ShardKey
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.process.child import CallFailed, Child

DEADLINE_S: Final = 30.0
"""One call; the largest real headers take less than a second."""
MEMORY_BYTES: Final = 3 << 30
"""Address space of the child: numpy alone reserves over 1 GiB; a parse itself stays below 256 MiB."""
IDLE_S: Final = 20.0
"""After its last call the child ends; starting one takes a few tenths of a second."""
ANSWER_MAX_BYTES: Final = 100 << 20
"""A layout with the largest header."""


class Inspector:
    """Asks the child, one call at a time."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def inspect(self, paths: Sequence[Path], *, is_header_only: bool = False) -> Inspection:
        """What the headers of one model say. Raises `ModelError`."""
        body = await self._call(INSPECT, pack_fields(_question(paths, is_header_only)))
        return unpack_fields(Inspection, unpack(body, ANSWER_MAX_BYTES))

    async def layout(self, paths: Sequence[Path], key: ShardKey, *, is_header_only: bool = False) -> Layout:
        """How the shard `key` of that model is written. Raises `ModelError`."""
        body = await self._call(LAYOUT, pack_fields(WantedLayout(_question(paths, is_header_only), key)))
        return unpack_fields(Layout, unpack(body, ANSWER_MAX_BYTES))

    async def stop(self) -> None:
        """Ends the child, and with it a call under way."""
        if self._child is not None:
            self._child.kill()
        async with self._turn:
            self._rest()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _call(self, kind: int, request: object) -> bytes:
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                child = await self._running()
                return await child.call(kind, pack(request), deadline_s=DEADLINE_S)
            except CallFailed as error:
                raise _failure(error) from None
            except asyncio.CancelledError:
                self._rest()  # it may go on with this call, in the time of the next one
                raise
            except ProcessError as error:
                self._rest()  # it is dead, or about to be
                raise _failure(error) from None
            finally:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._rest)

    async def _running(self) -> Child:
        """The child. What keeps it from starting says nothing about a file."""
        if self._child is not None and self._child.alive:
            return self._child
        try:
            self._child = await Child.start(
                "peerinfer.models.inspection", "model reader", memory_limit_bytes=MEMORY_BYTES
            )
        except ProcessError as error:
            raise ModelError(f"Model files cannot be read at the moment: {error} They are looked at again.") from None
        return self._child

    def _rest(self) -> None:
        child, self._child = self._child, None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if child is not None:
            task = asyncio.get_running_loop().create_task(child.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


def _question(paths: Sequence[Path], is_header_only: bool) -> Question:
    return Question(tuple(str(path) for path in paths), is_header_only)


def _failure(error: ProcessError) -> PeerinferError:
    if isinstance(error, CallFailed):
        told = error_from_code(error.code_text, str(error))
        return told if isinstance(told, ModelError) else CorruptModel(f"The model file cannot be read: {error}")
    return CorruptModel(f"The model file was given up, because reading it failed: {error} Fetch it again.")
