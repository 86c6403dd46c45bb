"""Stages are measured when they are loaded and while they run; a measurement that fails costs no load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peerinfer.engine.host import StageHost
from peerinfer.errors import EngineError
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import read_header
from peerinfer.pipeline.metering import SINGLES_MIN, StageFigures, StageShape, Watch, shape_of
from peerinfer.pipeline.requests import ChatRequest
from peerinfer.pipeline.times import StageTimes
from tests.pipeline.house import House, collect
from tests.tiny import write_tiny_llama

SHAPE = StageShape("llama", "F32", 3, 1000, 0)


class Book:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.learnt: list[StageFigures] = []
        self.corrected: list[StageFigures] = []

    def wants(self, _shape: StageShape) -> bool:
        return True

    def learn(self, figures: StageFigures) -> None:
        self.learnt.append(figures)

    def correct(self, figures: StageFigures) -> None:
        self.corrected.append(figures)


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(write_tiny_llama(tmp_path / "tiny.gguf", layers=6))


async def test_each_stage_is_measured_as_it_is_loaded_and_again_while_it_runs(tmp_path: Path, tiny: str) -> None:
    house = House(tmp_path, tiny, 2)
    books = [Book(), Book()]
    for pipeline, book in zip(house.pipelines, books, strict=True):
        pipeline._meter = book
    async with house:
        learnt = [figures for book in books for figures in book.learnt]
        assert [figures.shape.layers for figures in learnt] == [3, 3]
        assert [figures.shape.head_bytes > 0 for figures in learnt] == [False, True]
        assert all(figures.decode_us > 0 and figures.stage_us > 0 for figures in learnt)
        await collect(house.gateways[0], ChatRequest("", (), prompt="hello", max_tokens=SINGLES_MIN + 10))
        for pipeline in house.pipelines:
            pipeline._look()
        assert all(book.corrected and book.corrected[0].decode_us > 0 for book in books)


@pytest.mark.parametrize("kills", [False, True])
async def test_a_measurement_that_fails_costs_no_load(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, kills: bool
) -> None:
    async def fails(host: StageHost) -> None:
        if kills:
            host.kill()
            await asyncio.shield(host._child._ended)
        raise EngineError("It does not answer.")

    monkeypatch.setattr(StageHost, "calibrate", fails)
    house = House(tmp_path, tiny, 1)
    house.pipelines[0]._meter = Book()
    async with house:
        ids, _, _ = await collect(house.gateways[0], ChatRequest("", (), prompt="hello", max_tokens=4))
        assert ids


def test_layers_that_a_card_does_not_compute_are_the_processors(tiny: str) -> None:
    facts = model_facts(read_header(Path(tiny)))
    on_host = [shape_of(facts, (1, 5), "llama.cpp", accelerated).on_host for accelerated in (None, 4, 3, 0)]
    assert on_host == [0, 0, 1, 4]


async def test_a_stage_is_measured_as_what_it_was_placed_on(tmp_path: Path, tiny: str) -> None:
    house, book = House(tmp_path, tiny, 1, accelerated=2), Book()
    house.pipelines[0]._meter = book
    async with house:
        assert [figures.shape.on_host for figures in book.learnt] == [4]


def test_few_steps_make_no_figure() -> None:
    times = StageTimes()
    watch = Watch(SHAPE, times)
    for _ in range(SINGLES_MIN - 1):
        times.step(1700, 1500, (1200, 1000, 50), 1)
    assert watch.look() is None
    times.step(1700, 1500, (1200, 1000, 50), 1)
    figures = watch.look()
    assert figures is not None
    assert figures.decode_us == pytest.approx(1000)
    assert figures.stage_us == pytest.approx(500)
    assert watch.look() is None
    for _ in range(SINGLES_MIN):
        times.step(9000, 9000, (8000, 8000, 0), 4)  # steps of several rows say nothing of a single stream
    assert watch.look() is None
