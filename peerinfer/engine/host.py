"""The daemon's side of the engine's children: a stage that runs frames, a tokenizer that serves the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from peerinfer.clock import monotonic_us
from peerinfer.engine import calls
from peerinfer.engine.base import SampledToken, StageSpec
from peerinfer.engine.measuring import Measured
from peerinfer.engine.mlx_ability import MlxAbility
from peerinfer.engine.pieces import PieceTable
from peerinfer.errors import (
    BadRequest,
    ChildDied,
    Desync,
    EngineDied,
    EngineError,
    PeerinferError,
    ProcessError,
    UnsupportedModel,
)
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.process.child import CallFailed, Child

LOAD_DEADLINE_S = 900.0
"""A large model from a slow disk; progress is reported meanwhile."""
FACTS_DEADLINE_S = 60.0
CALIBRATE_DEADLINE_S = 120.0
"""A dozen tokens and a short prompt: seconds even where a model hardly fits."""
EMPTY_CALLS = 5
TOKENIZER_DEADLINE_S = 60.0
"""Opening a vocabulary of a quarter of a million tokens takes a few seconds."""
PROMPT_DEADLINE_S = 10.0
"""Rendering and tokenising one prompt: a template that loops is ended here."""
TOKENIZER_MEMORY_BYTES = 6 * 1024**3
"""Address space of a tokenizer's child: libraries reserve much more than they use."""
ABILITY_MAX_BYTES = 4096
ANSWER_MAX_BYTES = 64 * 1024 * 1024

_KINDS: dict[str, type[PeerinferError]] = {
    kind.code: kind for kind in (BadRequest, Desync, EngineError, UnsupportedModel)
}


def engine_failure(error: Exception) -> PeerinferError:
    """The error of our tree that a child's failure stands for."""
    if isinstance(error, CallFailed):
        return _KINDS.get(error.code_text, EngineError)(str(error))
    if isinstance(error, ChildDied):
        return EngineDied(f"{error} The request can be sent again.")
    return EngineError(str(error))


class StageHost:
    """One stage in its child process."""

    def __init__(self, spec: StageSpec, child: Child, facts: Mapping[str, int]) -> None:
        self.spec = spec
        self.facts = dict(facts)
        self._child = child

    @classmethod
    async def start(
        cls, spec: StageSpec, on_progress: Callable[[float], None], on_death: Callable[[EngineDied], None]
    ) -> StageHost:
        """Starts a child and loads the stage. Raises `EngineError`, `EngineDied` or `UnsupportedModel`."""

        def progress(body: bytes) -> None:
            share = unpack(body, 64)
            if isinstance(share, float):
                on_progress(share)

        def died(death: ChildDied) -> None:
            on_death(EngineDied(str(death)))

        try:
            child = await Child.start("peerinfer.engine.worker", "engine", on_event=progress, on_death=died)
            try:
                body = await child.call(calls.LOAD, pack(pack_fields(spec)), deadline_s=LOAD_DEADLINE_S)
            except BaseException:
                await child.stop(grace_s=0.0)
                raise
        except ProcessError as error:
            raise engine_failure(error) from None
        return cls(spec, child, cast("dict[str, int]", unpack(body, 4096, maps=True)))

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._child.alive

    def kill(self) -> None:
        """Ends a child that hangs; its death is told as any other."""
        self._child.kill()

    def run(self, *frame: bytes | memoryview) -> asyncio.Future[bytes]:
        """Sends one step frame (in parts); its answer is for `split_answer`, its error for `engine_failure`."""
        return self._child.post(calls.STEP, *frame)

    async def measure(self) -> dict[str, int]:
        """`rss_bytes`, `kv_bytes`, occupied `slots` of the child, as of now."""
        body = await self._child.call(calls.FACTS, deadline_s=FACTS_DEADLINE_S)
        return cast("dict[str, int]", unpack(body, 4096, maps=True))

    async def calibrate(self) -> tuple[Measured, float]:
        """What the stage takes, and microseconds of a call to its child that computes nothing. Raises `EngineError`.

        A child that does not answer in time is ended: it hangs.
        """
        try:
            started = monotonic_us()
            for _ in range(EMPTY_CALLS):
                await self._child.call(calls.FACTS, deadline_s=FACTS_DEADLINE_S)
            empty_us = (monotonic_us() - started) / EMPTY_CALLS
            body = await self._child.call(calls.CALIBRATE, deadline_s=CALIBRATE_DEADLINE_S)
        except ProcessError as error:
            raise engine_failure(error) from None
        return unpack_fields(Measured, unpack(body, 4096)), empty_us

    async def stop(self) -> None:
        """Ends the child and frees its memory."""
        await self._child.stop()


async def can_offload() -> bool:
    """Whether llama.cpp here was built to compute with accelerators. Raises `EngineError` or `EngineDied`."""
    told = await _asked(calls.FACTS)
    return bool(cast("dict[str, int]", unpack(told, ABILITY_MAX_BYTES, maps=True)).get("offloads"))


async def ask_mlx() -> MlxAbility:
    """What MLX can do on this machine. Raises `EngineError` or `EngineDied`."""
    return unpack_fields(MlxAbility, unpack(await _asked(calls.ABILITY), ABILITY_MAX_BYTES))


async def _asked(question: int) -> bytes:
    """The answer of a child that holds no stage."""
    try:
        child = await Child.start("peerinfer.engine.worker", "engine")
        try:
            return await child.call(question, deadline_s=FACTS_DEADLINE_S)
        finally:
            await child.stop()
    except ProcessError as error:
        raise engine_failure(error) from None


def split_answer(body: bytes) -> tuple[tuple[int, int, int], memoryview]:
    """(step, engine, sampling) in microseconds, and the frame or tokens behind them."""
    step, engine, sampling = calls.TIMES.unpack_from(body)
    return (step, engine, sampling), memoryview(body)[calls.TIMES.size :]


def sampled_tokens(data: memoryview) -> tuple[SampledToken, ...]:
    """The tokens in a last stage's answer."""
    return tuple(unpack_fields(SampledToken, item) for item in cast("list[object]", unpack(data, ANSWER_MAX_BYTES)))


class TokenizerHost:
    """Vocabulary and chat template of one model, in a child process that is started again if it dies."""

    def __init__(self, vocabulary: Path) -> None:
        self._path = vocabulary
        self._child: Child | None = None
        self._opening = asyncio.Lock()
        self._stopped = False
        self.table = PieceTable(b"", b"")
        self.end_tokens: tuple[int, ...] = ()

    async def open(self) -> None:
        """Starts the child unless it runs. Raises `EngineError` or `UnsupportedModel`."""
        async with self._opening:
            if self._stopped:
                raise EngineError("This model's tokenizer has just been put away. Send the request again.")
            if self._child is not None and self._child.alive:
                return
            try:
                child = await Child.start(
                    "peerinfer.engine.tokenizer", "tokenizer", memory_limit_bytes=TOKENIZER_MEMORY_BYTES
                )
                try:
                    body = await child.call(calls.OPEN, pack(str(self._path)), deadline_s=TOKENIZER_DEADLINE_S)
                except BaseException:
                    await child.stop(grace_s=0.0)
                    raise
            except ProcessError as error:
                raise engine_failure(error) from None
            facts = cast("dict[str, Any]", unpack(body, ANSWER_MAX_BYTES, maps=True))
            self.table = PieceTable(facts["lengths"], facts["texts"])
            self.end_tokens = tuple(facts["ends"])
            self._child = child

    async def encode(self, text: str) -> tuple[int, ...]:
        """The ids of raw text, with the model's own special tokens around it."""
        return await self._ids(calls.ENCODE, text)

    async def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """The ids of a conversation rendered by the model's template."""
        return await self._ids(calls.CHAT, list(messages))

    async def _ids(self, kind: int, request: object) -> tuple[int, ...]:
        await self.open()
        assert self._child is not None  # noqa: S101 - `open` raised otherwise
        try:
            body = await self._child.call(kind, pack(request), deadline_s=PROMPT_DEADLINE_S)
        except ProcessError as error:
            raise engine_failure(error) from None
        return tuple(np.frombuffer(body, np.int32).tolist())

    async def stop(self) -> None:
        """Ends the child, for good."""
        async with self._opening:
            self._stopped = True
            if self._child is not None:
                await self._child.stop()
