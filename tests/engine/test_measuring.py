"""Measuring a stage that was just loaded: real figures, and no trace of it in what the stage computes afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import OpenSlot, Sampling
from peerinfer.engine.calls import CALIBRATE, LOAD, STEP
from peerinfer.engine.measuring import Measured, measure
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
