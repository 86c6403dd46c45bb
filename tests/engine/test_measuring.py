"""Measuring a stage that was just loaded: real figures, and no trace of it in what the stage computes afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import OpenSlot, Sampling, StageSpec
from peerinfer.engine.calls import CALIBRATE, LOAD, STEP
from peerinfer.engine.measuring import PROMPT_TOKENS, SHORT_PROMPT, Measured, measure
from peerinfer.engine.orders import encode_orders
from peerinfer.engine.worker import StageService
from peerinfer.errors import EngineError
from peerinfer.net.frames import Epoch, Row, StepFrame, encode_frame
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from tests.engine.chains import Stages, stages
from tests.tiny import write_tiny_llama

LAYERS = 5


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS)


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 3), (3, LAYERS), (0, LAYERS)])
def test_measuring_leaves_no_trace(tiny: Path, tmp_path: Path, first: int, last: int) -> None:
    with stages(tiny, tmp_path / "measured") as measured, stages(tiny, tmp_path / "plain") as plain:
        figures = measure(measured.stage(first, last))
        assert figures.decode_us > 0
        assert figures.prefill_us > 0
        assert (figures.head_us > 0) == (last == LAYERS) or last == LAYERS  # a tiny head may vanish in the noise
        assert figures.steps >= 3
        assert np.array_equal(_said(measured, first, last), _said(plain, first, last))


def _said(known: Stages, first: int, last: int) -> np.ndarray:
    """What a stage answers to a prompt and two steps in both slots."""
    stage = known.stage(first, last)
    outs = []
    chance = np.random.default_rng(7)
    for slot, position, count in ((0, 0, 7), (1, 0, 3), (0, 7, 1), (1, 3, 1)):
        row = Row(slot, 1, position, count, True)
        tokens = chance.integers(0, 20, count).astype(np.int32) if first == 0 else None
        hidden = None if first == 0 else chance.normal(0, 1, (count, stage.spec.n_embd)).astype(np.float32)
        outs.append(np.array(stage.forward([row], tokens, hidden)))
    return np.concatenate(outs)


def test_a_slow_clock_and_a_small_context_bound_the_work(tiny: Path, tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    with stages(tiny, tmp_path / "stages") as known:
        figures = measure(known.stage(0, 2), clock=lambda: float(next(ticks)))  # each look is a second later
    assert figures.steps == 3


class Cold:
    """A stage whose time is made up: 10 ms a token, a tenth of it in a prompt, and much at the first of either."""

    def __init__(self, first_token_s: float, first_prompt_s: float, token_s: float = 0.01) -> None:
        self.spec = StageSpec("trunk", True, "", "", 2, 8, 20, 512, 1)
        self.now = 0.0
        self.prompts: list[int] = []
        self._waits = {True: first_prompt_s, False: first_token_s}
        self._token_s = token_s

    def forward(self, rows: Sequence[Row], tokens: object, hidden: object) -> np.ndarray:
        count = rows[0].count
        if count > 1:
            self.prompts.append(count)
        self.now += count * self._token_s * (0.1 if count > 1 else 1.0) + self._waits.pop(count > 1, 0.0)
        return np.zeros((count, 8), np.float32)

    def truncate(self, slot: int, length: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(("first_token_s", "first_prompt_s"), [(0.0, 0.0), (0.5, 0.1), (5.0, 20.0)])
def test_what_loads_or_compiles_kernels_is_not_measured(first_token_s: float, first_prompt_s: float) -> None:
    cold = Cold(first_token_s, first_prompt_s)
    figures = measure(cold, clock=lambda: cold.now)
    assert figures.decode_us == pytest.approx(10_000.0)
    assert figures.prefill_us == pytest.approx(1000.0)
    assert cold.prompts == [PROMPT_TOKENS] * 2


def test_a_slow_machine_runs_a_short_prompt_once() -> None:
    slow = Cold(0.0, 0.0, token_s=1.0)
    assert measure(slow, clock=lambda: slow.now).prefill_us == pytest.approx(1e5)
    assert slow.prompts == [SHORT_PROMPT]


def test_a_stage_is_measured_only_while_it_is_loaded_and_empty(tiny: Path, tmp_path: Path) -> None:
    service = StageService()
    with pytest.raises(EngineError, match="only while it is loaded"):
        service(CALIBRATE, memoryview(b""), lambda _: None)
    with stages(tiny, tmp_path / "stages") as known:
        spec = known.stage(0, 2).spec
    service(LOAD, memoryview(pack(pack_fields(spec))), lambda _: None)
    (body,) = service(CALIBRATE, memoryview(b""), lambda _: None)
    assert unpack_fields(Measured, unpack(bytes(body), 4096)).decode_us > 0
    opening = OpenSlot(0, 1, "r", "a" * 32, 4, Sampling(), ())
    frame = StepFrame(
        b"i" * 16,
        Epoch(1, "a" * 32, 1),
        1,
        (Row(0, 1, 0, 2, True),),
        0,
        np.array([1, 2], np.int32).tobytes(),
        encode_orders((opening,)),
    )
    service(STEP, memoryview(encode_frame(frame)), lambda _: None)
    with pytest.raises(EngineError, match="no sequence is open"):
        service(CALIBRATE, memoryview(b""), lambda _: None)
