"""What a machine tells of its speed: by the device that computed a stage, and by no device where two shared it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peerinfer.engine.kinds import OUTGROWN
from peerinfer.node.speeds import Speeds
from peerinfer.pipeline.metering import StageFigures, StageShape
from peerinfer.telemetry.facts import DeviceFacts

DEVICES = (DeviceFacts("cpu", "A processor"), DeviceFacts("cuda", "A card", 24 * 10**9))
SHAPE = StageShape("llama", "Q4_1", 20, 10**8, 0)


def speeds(home: Path, *accelerators: str) -> Speeds:
    return Speeds(home, 4, lambda: DEVICES, lambda _engine: accelerators)


def figures(shape: StageShape, layer_us: float) -> StageFigures:
    return StageFigures(shape, shape.layers * layer_us, 0.0, 10.0, 300.0)


def test_each_device_has_its_own_figures(tmp_path: Path) -> None:
    here = speeds(tmp_path, "cuda")
    on_host = replace(SHAPE, on_host=SHAPE.layers)
    assert here.wants(SHAPE)
    here.learn(figures(SHAPE, 500.0))
    assert (here.wants(SHAPE), here.wants(on_host)) == (False, True)
    here.learn(figures(on_host, 5000.0))
    assert {one.device: one.bytes_per_s > 1e11 for one in here.told()} == {"cuda": True, "cpu": False}
    assert [one.device for one in speeds(tmp_path).told()] == ["cpu"]  # a card that the engine uses no more


@pytest.mark.parametrize("on_host", [1, SHAPE.layers - 1])
def test_a_stage_that_two_devices_share_says_nothing_of_either(tmp_path: Path, on_host: int) -> None:
    here = speeds(tmp_path, "cuda")
    shared = replace(SHAPE, on_host=on_host)
    assert not here.wants(shared)
    here.learn(figures(shared, 500.0))
    here.correct(figures(shared, 500.0))
    assert here.told() == ()


def test_much_larger_layers_are_measured_anew(tmp_path: Path) -> None:
    here = speeds(tmp_path, "cuda")
    here.learn(figures(SHAPE, 500.0))
    assert not here.wants(replace(SHAPE, layers=200, layer_bytes=OUTGROWN * SHAPE.layer_bytes))
    assert here.wants(replace(SHAPE, layer_bytes=OUTGROWN * SHAPE.layer_bytes + 1))
    assert [one.layer_bytes for one in here.told()] == [SHAPE.layer_bytes]
