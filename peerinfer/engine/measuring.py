"""A short real decode and prefill of a stage that was just loaded, on a scratch sequence that is forgotten again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from peerinfer.engine.base import StageEngine
from peerinfer.net.frames import Row

PROMPT_TOKENS: Final = 64
"""Of the prefill: large enough that kernels for prompts are used, a tenth of a second on a laptop."""
WARM_UPS: Final = 2
"""Steps that are not counted: caches and threads are cold."""
STEPS_MIN: Final = 3
STEPS_MAX: Final = 16
BUDGET_S: Final = 0.5
"""For each kind of step; a slow machine does fewer of them."""
QUICK_PROMPT_S: Final = 0.25
"""A prompt that took less is run again; so is one that took longer than its tokens one by one, as the first on a GPU
may, for which kernels are loaded, or compiled."""
SLOW_TOKEN_S: Final = 0.1
"""A machine that needs longer for one token measures its prefill with fewer."""
SHORT_PROMPT: Final = 8
HIDDEN_SCALE: Final = 0.5
"""Standard deviation of made-up hidden states; what they are does not change the time."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stage takes. Microseconds."""

    decode_us: float
    """A token, without the head."""
    head_us: float
    """What norm and head add to it; 0 on a stage that has none."""
    prefill_us: float
    """Each token of a prompt."""
    steps: int
    """Decode steps behind it."""


def measure(engine: StageEngine, clock: Clock = time.perf_counter) -> Measured:
    """Measures a stage in which no sequence is open. Raises `EngineError` if it cannot run.

    The head is what a step with a sampled token takes longer than one without: llama.cpp computes norm and head for
    sampled rows only.
    """
    run = _Run(engine, clock)
    has_head = engine.spec.kind != "trunk"
    try:
        run.step(1, sample=has_head)  # loads kernels, too
        first_s = run.step(1, sample=has_head)
        prompt = min(PROMPT_TOKENS if first_s < SLOW_TOKEN_S else SHORT_PROMPT, max(1, run.room // 2))
        prefill_s = run.step(prompt, sample=has_head)
        if prefill_s < QUICK_PROMPT_S or prefill_s > prompt * first_s:
            prefill_s = min(prefill_s, run.step(prompt, sample=has_head))
        with_head = run.steps(sample=has_head)
        without = run.steps(sample=False) if has_head else with_head
    finally:
        engine.truncate(0, 0)
    decode_s, plain_s = statistics.median(with_head), statistics.median(without)
    return Measured(
        decode_us=min(decode_s, plain_s) * 1e6,
        head_us=max(0.0, decode_s - plain_s) * 1e6 if has_head else 0.0,
        prefill_us=prefill_s / prompt * 1e6,
        steps=len(with_head),
    )


class _Run:
    """A sequence in slot 0, from position 0 on."""

    def __init__(self, engine: StageEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._chance = np.random.default_rng(0)
        self._position = 0

    @property
    def room(self) -> int:
        """Tokens that fit behind what is there."""
        return self._engine.spec.context - self._position

    def step(self, count: int, *, sample: bool) -> float:
        """Seconds that `count` tokens take."""
        spec = self._engine.spec
        if self.room < count:
            self._engine.truncate(0, 0)
            self._position = 0
        row = Row(0, 0, self._position, count, sample)
        tokens = hidden = None
        if spec.first:
            tokens = self._chance.integers(0, spec.n_vocab, count).astype(np.int32)
        else:
            hidden = self._chance.normal(0.0, HIDDEN_SCALE, (count, spec.n_embd)).astype(np.float32)
        started = self._clock()
        self._engine.forward([row], tokens, hidden)
        self._position += count
        return self._clock() - started

    def steps(self, *, sample: bool) -> list[float]:
        """Seconds of single tokens, within the budget."""
        for _ in range(WARM_UPS):
            self.step(1, sample=sample)
        taken: list[float] = []
        until = self._clock() + BUDGET_S
        while len(taken) < STEPS_MIN or (len(taken) < STEPS_MAX and self._clock() < until):
            taken.append(self.step(1, sample=sample))
        return taken
