"""Calibration: the fit finds what made the figures, corrections are slow and bounded, a bad file costs only figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.telemetry.calibration import (
    CPU_OVERHEAD_US,
    ENTRIES_MAX,
    FACTOR_MAX,
    OLD_S,
    SKIPPED_LAYERS,
    Calibration,
    Figure,
    Kind,
    StageSample,
    fit,
)
from peerinfer.telemetry.calibration_file import CalibrationFile

KIND = Kind("llama.cpp", "cpu", "A processor", 4, "llama", "Q4_1")


def sampled(rate: float, overhead_us: float, layers: int, layer_bytes: int, head_bytes: int) -> StageSample:
    """What a machine with these two numbers would be measured to take."""
    layer_us = layer_bytes / rate * 1e6 + overhead_us
    head_us = head_bytes / rate * 1e6
    skipped = SKIPPED_LAYERS if head_bytes else 0.0
    return StageSample(
        kind=KIND,
        layers=layers,
        layer_bytes=layer_bytes,
        head_bytes=head_bytes,
        decode_us=(layers - skipped) * layer_us,
        head_us=head_us + skipped * layer_us if head_bytes else 0.0,
        prefill_us=layers * layer_us / 4,
        stage_us=300.0,
    )


rates = st.floats(1e9, 3e12)
overheads = st.floats(0.0, 300.0)
layer_counts = st.integers(1, 126)
sizes = st.integers(1_000_000, 2_000_000_000)


@given(rates, overheads, layer_counts, sizes, sizes)
def test_a_stage_with_a_head_gives_both_numbers(
    rate: float, overhead_us: float, layers: int, layer_bytes: int, head_bytes: int
) -> None:
    figure = fit(sampled(rate, overhead_us, layers, layer_bytes, head_bytes), 0.0)
    if layer_bytes / rate * 1e6 + overhead_us > 60e6 or head_bytes / rate * 1e6 > 60e6:
        return
    assert figure is not None
    assert figure.bytes_per_s == pytest.approx(rate, rel=1e-3)
    assert figure.overhead_us == pytest.approx(overhead_us, rel=1e-3, abs=layer_bytes / rate * 1e3)


@given(rates, layer_counts, layer_counts, sizes)
def test_without_a_head_the_layers_alone_are_predicted_for_any_split(
    rate: float, layers: int, others: int, layer_bytes: int
) -> None:
    sample = sampled(rate, CPU_OVERHEAD_US, layers, layer_bytes, 0)
    figure = fit(sample, 0.0)
    assert figure is not None
    expected_us = sample.decode_us / layers * others
    assert figure.layers_us(others, layer_bytes, 0) == pytest.approx(expected_us, rel=1e-6)


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-5, 200),
    st.integers(-5, 2**50),
)
def test_rubbish_gives_a_sound_figure_or_none(decode_us: float, head_us: float, layers: int, layer_bytes: int) -> None:
    figure = fit(StageSample(KIND, layers, layer_bytes, 1000, decode_us, head_us, 5.0, 5.0), 0.0)
    assert figure is None or figure.is_sound


def test_a_busy_machine_is_slow_only_slowly_and_within_bounds() -> None:
    book = Calibration()
    sample = sampled(1e10, 20.0, 10, 10**7, 0)
    assert book.learn(sample, 0.0)
    slow = replace(sample, decode_us=sample.decode_us * 1.5)
    book.correct(slow)
    (once,) = book.figures
    assert 1.0 < once.factor < 1.15
    for _ in range(200):
        book.correct(slow)
    (settled,) = book.figures
    assert settled.layers_us(10, 10**7, 0) == pytest.approx(slow.decode_us, rel=0.01)
    for _ in range(200):
        book.correct(replace(sample, decode_us=sample.decode_us * 100))
    (worst,) = book.figures
    assert worst.factor == FACTOR_MAX


def test_noise_makes_no_news_and_a_change_does() -> None:
    book = Calibration()
    sample = sampled(1e10, 20.0, 10, 10**7, 0)
    book.learn(sample, 0.0)
    told = book.told()
    for share in (1.05, 0.95, 1.1, 0.9):
        book.correct(replace(sample, decode_us=sample.decode_us * share))
        assert book.told() == told
    for _ in range(20):
        book.correct(replace(sample, decode_us=sample.decode_us * 1.4))
    assert book.told() != told


def test_a_figure_is_fresh_for_a_week_and_another_kind_is_another_figure() -> None:
    book = Calibration()
    book.learn(sampled(1e10, 20.0, 10, 10**7, 0), 1000.0)
    assert book.is_known(KIND, 1000.0 + OLD_S - 1)
    assert book.is_known(KIND, 0.0)
    assert not book.is_known(KIND, 1000.0 + OLD_S)
    assert not book.is_known(replace(KIND, threads=8), 1000.0)
    for number in range(2 * ENTRIES_MAX):
        kind = replace(KIND, architecture=f"a{number}")
        book.learn(replace(sampled(1e10, 20.0, 10, 10**7, 0), kind=kind), 2000.0 + number)
    assert len(book.figures) == ENTRIES_MAX
    assert not book.is_known(KIND, 1000.0)


def test_what_was_measured_is_there_after_a_restart(tmp_path: Path) -> None:
    book = Calibration()
    book.learn(sampled(1e10, 20.0, 10, 10**7, 10**8), 5.0)
    file = CalibrationFile(tmp_path / "calibration.json")
    file.save(book.figures)
    assert Calibration(file.load()).figures == book.figures


FIGURE = Figure(KIND, 1e10, 20.0, 1e12, 300.0, 1, 5.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "figures": []}',
        '{"version": 1, "figures": [{"kind": {}}]}',
        '{"version": 1, "figures": [3]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_set_aside_and_measured_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    assert CalibrationFile(path).load() == ()
    assert path.with_suffix(".damaged").read_text() == text
    CalibrationFile(path).save((FIGURE,))
    assert CalibrationFile(path).load() == (FIGURE,)


@pytest.mark.parametrize(
    "figure",
    [
        replace(FIGURE, kind=replace(FIGURE.kind, size=10**30)),
        replace(FIGURE, kind=replace(FIGURE.kind, threads=-1)),
        replace(FIGURE, samples=1.5),
    ],
)
def test_what_could_not_be_told_to_others_is_set_aside(tmp_path: Path, figure: Figure) -> None:
    file = CalibrationFile(tmp_path / "calibration.json")
    file.save((figure,))
    assert file.load() == ()


def test_a_file_from_before_sizes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    CalibrationFile(path).save((FIGURE,))
    rows = json.loads(path.read_text())
    assert rows["figures"][0]["kind"].pop("size") == 0
    path.write_text(json.dumps(rows))
    assert CalibrationFile(path).load() == (FIGURE,)


@pytest.mark.parametrize(
    "change", [{"bytes_per_s": 0.0}, {"factor": 1e9}, {"overhead_us": -1.0}, {"samples": 0}, {"samples": 10**30}]
)
def test_numbers_that_cannot_be_are_not_believed(tmp_path: Path, change: dict[str, float]) -> None:
    path = tmp_path / "calibration.json"
    CalibrationFile(path).save((replace(FIGURE, **change),))
    assert json.loads(path.read_text())["version"] == 1
    assert Calibration(CalibrationFile(path).load()).figures == ()


def test_a_disk_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").mkdir()
    CalibrationFile(tmp_path / "calibration.json").save((FIGURE,))
    assert CalibrationFile(tmp_path / "calibration.json").load() == ()
    assert not list(tmp_path.glob("*.partial"))
    assert not math.isnan(FIGURE.layers_us(1, 1, 1))
