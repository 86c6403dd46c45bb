"""Whether rows of several sequences should be computed together on this machine: measured when a stage is loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from peerinfer.engine.base import StageEngine
from peerinfer.net.frames import Row

BATCH_GAIN = 0.7
"""Rows of several sequences run as one batch only if that takes less than this share of running them singly:
on CPUs it often does not pay, and single rows give bit-equal results whoever else is served."""
CALIBRATION_STEPS = 3


class BatchingEngine(StageEngine, Protocol):
    """An engine that can do both."""

    batch_rows: bool

    @property
    def kv_bytes(self) -> int:
        """Bytes of its KV cache."""
        ...


def batching_pays(engine: BatchingEngine, clear: Callable[[], object]) -> bool:
    """Measures one batch of a row per slot against the same rows one by one, on zeros, and forgets them by `clear`."""
    spec = engine.spec
    if spec.slots == 1:
        return False
    rows = [Row(slot, 0, 0, 1, True) for slot in range(spec.slots)]
    tokens = np.zeros(spec.slots, np.int32) if spec.first else None
    hidden = None if spec.first else np.zeros((spec.slots, spec.n_embd), np.float32)
    seconds: dict[bool, float] = {}
    for together in (False, True):
        engine.batch_rows = together
        best = float("inf")
        for _ in range(CALIBRATION_STEPS):
            clear()
            start = time.perf_counter()
            engine.forward(rows, tokens, hidden)
            best = min(best, time.perf_counter() - start)
        seconds[together] = best
    clear()
    return seconds[True] < BATCH_GAIN * seconds[False]
