"""The engine's child process: holds one stage, runs step frames, samples where it is the last.

Served by `peerinfer.process.inside`; `host.py` is the daemon's side. A step's answer starts with three u32 of
microseconds (whole step, engine, sampling), then either the frame for the next stage or the sampled tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import psutil

from peerinfer.engine.base import Hidden, SampledToken, StageEngine, StageSpec
from peerinfer.engine.calls import ABILITY, CALIBRATE, LOAD, STEP, TIMES
from peerinfer.engine.llama import offloads
from peerinfer.engine.loading import load
from peerinfer.engine.measuring import measure
from peerinfer.engine.mlx_ability import mlx_ability
from peerinfer.engine.orders import decode_orders
from peerinfer.engine.sampler import sample
from peerinfer.engine.slots import Forget, SlotTable
from peerinfer.errors import BadFrame, EngineError
from peerinfer.net.frames import StepFrame, decode_frame, encode_head
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.process.inside import Emit, Part

SPEC_MAX_BYTES = 65_536
PROGRESS_STEP = 0.02
"""Share of loading between two progress events."""


class StageService:
    """Answers the calls of one stage's host."""

    def __init__(self) -> None:
        self._engine: StageEngine | None = None
        self._slots = SlotTable(0, 0)
        self._facts: dict[str, int] = {}

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:
        """One call: `LOAD` a stage, run a `STEP`, `CALIBRATE`, tell `FACTS`, or the `ABILITY` of MLX."""
        if kind == LOAD:
            return [self._load(body, emit)]
        if kind == STEP:
            return self._step(body)
        if kind == CALIBRATE:
            return [self._calibrate()]
        if kind == ABILITY:
            return [pack(pack_fields(mlx_ability()))]
        memory_bytes = psutil.Process().memory_info().rss
        now = {"rss_bytes": memory_bytes, "slots": self._slots.occupied, "offloads": int(offloads())}
        return [pack({**self._facts, **now})]

    def _load(self, body: memoryview, emit: Emit) -> bytes:
        spec = unpack_fields(StageSpec, unpack(body, SPEC_MAX_BYTES))
        told = 0.0

        def progress(share: float) -> None:
            nonlocal told
            if share >= told + PROGRESS_STEP:
                told = share
                emit(pack(share))

        self._engine, self._facts = load(spec, progress)
        self._slots = SlotTable(spec.slots, spec.context)
        return pack(self._facts)

    def _calibrate(self) -> bytes:
        if self._engine is None or self._slots.occupied:
            raise EngineError("A stage can be measured only while it is loaded and no sequence is open.")
        return pack(pack_fields(measure(self._engine)))

    def _step(self, body: memoryview) -> Sequence[Part]:
        started = time.perf_counter()
        frame = decode_frame(body)
        engine = self._engine
        if engine is None:
            raise EngineError("A step came before the stage was loaded.")
        for order in decode_orders(frame.orders):
            effect = self._slots.obey(order)
            if effect is not None:
                self._forget(engine, effect)
        self._slots.check(frame.rows)
        computed = time.perf_counter()
        output = self._forward(engine, frame)
        self._slots.advance(frame.rows)
        done = time.perf_counter()
        if engine.spec.kind == "trunk":
            payload = memoryview(output.data).cast("B") if frame.rows else b""
            following = replace(frame, width=engine.spec.n_embd, payload=payload)
            return [_times(started, computed, done), encode_head(following), following.payload]
        sampled = [self._sample(frame, index, logits) for index, logits in zip(_sampling(frame), output, strict=True)]
        return [_times(started, computed, done), pack([pack_fields(token) for token in sampled])]

    def _forget(self, engine: StageEngine, effect: Forget) -> None:
        try:
            engine.truncate(effect.slot, effect.length)
        except EngineError:
            self._slots.lose(effect.slot)
            raise

    def _forward(self, engine: StageEngine, frame: StepFrame) -> Hidden:
        spec = engine.spec
        if frame.width != (0 if spec.first else spec.n_embd):
            raise BadFrame("A step whose width is not this stage's.")
        if not frame.rows:
            return np.empty((0, spec.n_embd), np.float32)
        try:
            if spec.first:
                return engine.forward(frame.rows, np.frombuffer(frame.payload, np.int32), None)
            states = np.frombuffer(frame.payload, np.float32).reshape(-1, spec.n_embd)
            return engine.forward(frame.rows, None, states)
        except Exception:
            for effect in self._slots.abandon(frame.rows):
                engine.truncate(effect.slot, effect.length)
            raise

    def _sample(self, frame: StepFrame, index: int, logits: Hidden) -> SampledToken:
        row = frame.rows[index]
        tenant = self._slots.tenant(row.slot, row.generation)
        if tenant is None:
            raise EngineError("A row without a tenant.")
        opening = tenant.opening
        return self._slots.sampled(row, sample(logits, opening.sampling, opening.history, tenant.produced))


def _sampling(frame: StepFrame) -> list[int]:
    return [index for index, row in enumerate(frame.rows) if row.sample]


def _times(started: float, computed: float, done: float) -> bytes:
    now = time.perf_counter()
    return TIMES.pack(*(min(int(span * 1e6), 2**32 - 1) for span in (now - started, done - computed, now - done)))


def open_service() -> StageService:
    """The service of a fresh child."""
    return StageService()
