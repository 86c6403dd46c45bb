"""What a machine tells of its speed: by the device that computed a stage, and by no device where two shared it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peerinfer.gossip.snapshot import size_class
from peerinfer.node.speeds import Speeds
from peerinfer.pipeline.metering import StageFigures, StageShape
from peerinfer.telemetry.calibration import CUDA_OVERHEAD_US
from peerinfer.telemetry.facts import DeviceFacts

DEVICES = (DeviceFacts("cpu", "A processor"), DeviceFacts("cuda", "A card", 24 * 10**9))
SHAPE = StageShape("llama", "Q4_1", 20, 10**8, 0, 10**8)


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
    heavy = replace(SHAPE, heaviest_bytes=5 * SHAPE.heaviest_bytes)
    assert not here.wants(replace(SHAPE, layers=200, layer_bytes=1))  # another part of such a model
    assert here.wants(heavy)
    here.learn(figures(heavy, 2000.0))
    here.correct(figures(SHAPE, 900.0))  # does not touch the other
    sizes = {one.size: one.overhead_us for one in here.told()}
    assert set(sizes) == {size_class("cuda", SHAPE.heaviest_bytes), size_class("cuda", heavy.heaviest_bytes)}
    assert sizes[size_class("cuda", heavy.heaviest_bytes)] == pytest.approx(CUDA_OVERHEAD_US)
    on_host = replace(SHAPE, on_host=SHAPE.layers)
    here.learn(figures(on_host, 5000.0))
    assert not here.wants(replace(heavy, on_host=heavy.layers))  # a processor's figures hold for all sizes


def test_nothing_is_learnt_until_it_is_known_what_the_engine_computes_with(tmp_path: Path) -> None:
    known: tuple[str, ...] | None = None
    here = Speeds(tmp_path, 4, lambda: DEVICES, lambda _engine: known)
    assert not here.wants(SHAPE)
    here.learn(figures(SHAPE, 500.0))
    here.correct(figures(SHAPE, 500.0))
    assert here.told() == ()
    known = ("cuda",)
    assert here.told() == ()
    assert here.wants(SHAPE)
