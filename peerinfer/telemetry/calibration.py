"""How fast an engine runs layers on this machine: fitted from short measurements, corrected by what stages really take.

A stage of n layers takes `n · (layer_bytes / rate + overhead)` for a token, and its head `head_bytes / rate`: two
numbers for each kind of model, since kernels of one quantisation read weights at one rate. Where a head was measured,
it gives the rate and the layers give the overhead; without one, the overhead is a guess and the layers give the rate.
Pure; `calibration_file.py` keeps it on disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from peerinfer.engine.kinds import LLAMA

CPU_OVERHEAD_US: Final = 15.0
CUDA_OVERHEAD_US: Final = 35.0
METAL_OVERHEAD_US: Final = 125.0
"""Per layer where nothing tells better: kernel launches, as a prototype measured them."""
SKIPPED_LAYERS: Final = 0.6
"""Of the last layer, what llama.cpp leaves out of a step without a sampled token: its feed-forward part. MLX stages
leave out nothing."""
OLD_S: Final = 7 * 86_400.0
"""A figure of another week is measured anew: drivers and governors change."""
ENTRIES_MAX: Final = 64
"""Kinds of models that one machine remembers."""
LEARNING: Final = 0.2
"""Weight of one look at running stages: a machine that is busy now is not slow for ever."""
FACTOR_MIN: Final = 0.4
FACTOR_MAX: Final = 4.0
"""Bounds of the correction: beyond, something else is wrong."""
TOLD_STEP: Final = 0.05
"""A figure that moved by less is told as before, so that noise makes no news."""
SAMPLES_MAX: Final = 1_000_000
"""Of one figure: more are not counted, and nobody measured more."""
RATE_MAX: Final = 1e14
"""Bytes per second; no memory reads faster."""
US_MAX: Final = 60e6
"""Of anything measured: longer than a minute is no measurement."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a figure holds for."""

    engine: str
    device: str
    """Kind of the device, such as `cpu`."""
    device_name: str
    threads: int
    """0 leaves it to the engine."""
    architecture: str
    quantisation: str
    size: int = 0
    """Of the layers, as `gossip.snapshot.size_class` has it."""


@dataclass(frozen=True, slots=True)
class StageSample:
    """A measured stage. Microseconds and bytes."""

    kind: Kind
    layers: int
    layer_bytes: int
    """Of one of its layers."""
    head_bytes: int
    """0 on a stage without a head."""
    decode_us: float
    """One token through its layers; where it has a head, without what a step without output leaves out."""
    head_us: float
    """What a step with output takes longer: the head, and what one without leaves out."""
    prefill_us: float
    """Each token of a prompt through its layers."""
    stage_us: float
    """Pipe, child and sampling of one step."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What is known of one kind of model."""

    kind: Kind
    bytes_per_s: float
    overhead_us: float
    prefill_bytes_per_s: float
    stage_us: float
    samples: int
    at_s: float
    """When it was measured last (seconds since 1970)."""
    factor: float = 1.0
    """What running stages take, against what was measured when they were loaded."""

    @property
    def is_sound(self) -> bool:
        """Whether all numbers can be: a file may say anything."""
        numbers = (self.bytes_per_s, self.overhead_us, self.prefill_bytes_per_s, self.stage_us, self.at_s, self.factor)
        return (
            all(math.isfinite(number) and number >= 0 for number in numbers)
            and 0 < self.bytes_per_s <= RATE_MAX
            and self.prefill_bytes_per_s <= RATE_MAX
            and max(self.overhead_us, self.stage_us) <= US_MAX
            and FACTOR_MIN <= self.factor <= FACTOR_MAX
            and 0 < self.samples <= SAMPLES_MAX
        )

    def layers_us(self, layers: int, layer_bytes: int, head_bytes: int) -> float:
        """What is expected of a stage in its engine, for one token."""
        read_us = (layers * layer_bytes + head_bytes) / self.bytes_per_s * 1e6
        return (read_us + layers * self.overhead_us) * self.factor


def fit(sample: StageSample, now_s: float) -> Figure | None:
    """The figure that one sample gives; None for one that cannot be."""
    counted = sample.layers - (_skipped(sample.kind.engine) if sample.head_us > 0 else 0.0)
    layer_us = sample.decode_us / max(counted, 0.4)
    if not 1e-3 < layer_us <= US_MAX or not 0 <= sample.head_us <= US_MAX or sample.layer_bytes <= 0:
        return None
    head_us = sample.head_us - _skipped(sample.kind.engine) * layer_us
    if head_us > 0 and sample.head_bytes > 0:
        rate = sample.head_bytes / max(head_us, 1e-3) * 1e6
    else:
        reading_us = max(layer_us - _overhead_us(sample.kind.device), layer_us / 4)
        rate = sample.layer_bytes / reading_us * 1e6
    rate = min(rate, RATE_MAX)
    overhead_us = layer_us - sample.layer_bytes / rate * 1e6
    if overhead_us < 0:  # the head is slower than the layers: then they set the rate
        rate, overhead_us = sample.layer_bytes / layer_us * 1e6, 0.0
    prefill_us = sample.prefill_us / max(1, sample.layers)
    figure = Figure(
        kind=sample.kind,
        bytes_per_s=rate,
        overhead_us=overhead_us,
        prefill_bytes_per_s=min(RATE_MAX, sample.layer_bytes / prefill_us * 1e6) if prefill_us > 0 else 0.0,
        stage_us=max(0.0, sample.stage_us),
        samples=1,
        at_s=now_s,
    )
    return figure if figure.is_sound else None


def _skipped(engine: str) -> float:
    return SKIPPED_LAYERS if engine == LLAMA else 0.0


def _overhead_us(device: str) -> float:
    return {"cuda": CUDA_OVERHEAD_US, "rocm": CUDA_OVERHEAD_US, "metal": METAL_OVERHEAD_US}.get(device, CPU_OVERHEAD_US)


class Calibration:
    """The figures of this machine, and what is told of them."""

    def __init__(self, stored: tuple[Figure, ...] = ()) -> None:
        self._figures = {figure.kind: figure for figure in stored if figure.is_sound}
        self._told: dict[Kind, Figure] = {}

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All, the newest first."""
        return tuple(sorted(self._figures.values(), key=lambda figure: -figure.at_s))

    def is_known(self, kind: Kind, now_s: float) -> bool:
        """Whether there is a fresh figure. A clock that was set back makes none stale."""
        figure = self._figures.get(kind)
        return figure is not None and now_s - figure.at_s < OLD_S

    def learn(self, sample: StageSample, now_s: float) -> bool:
        """Takes in a measurement; whether it was one. A figure from before keeps half of its weight."""
        fresh = fit(sample, now_s)
        if fresh is None:
            return False
        before = self._figures.get(sample.kind)
        if before is not None and now_s - before.at_s < OLD_S:
            fresh = replace(
                fresh,
                bytes_per_s=math.sqrt(fresh.bytes_per_s * before.bytes_per_s),
                overhead_us=(fresh.overhead_us + before.overhead_us) / 2,
                stage_us=before.stage_us,
                samples=min(SAMPLES_MAX, before.samples + 1),
            )
        self._figures[sample.kind] = fresh
        while len(self._figures) > ENTRIES_MAX:
            oldest = min(self._figures.values(), key=lambda figure: figure.at_s)
            del self._figures[oldest.kind]
        return True

    def correct(self, sample: StageSample) -> None:
        """Takes in what a running stage takes: `decode_us` is all of its engine's time for a token, with the head."""
        figure = self._figures.get(sample.kind)
        if figure is None or not 0 < sample.decode_us <= US_MAX:
            return
        expected_us = figure.layers_us(sample.layers, sample.layer_bytes, sample.head_bytes)
        ratio = min(2.0, max(0.5, sample.decode_us / expected_us))
        factor = min(FACTOR_MAX, max(FACTOR_MIN, figure.factor * ratio**LEARNING))
        stage_us = figure.stage_us + LEARNING * (min(sample.stage_us, US_MAX) - figure.stage_us)
        self._figures[sample.kind] = replace(figure, factor=factor, stage_us=max(0.0, stage_us))

    def told(self) -> tuple[Figure, ...]:
        """What others shall hear: figures that moved by little are told as before."""
        told: list[Figure] = []
        for figure in self.figures:
            before = self._told.get(figure.kind)
            if before is None or _moved(before, figure):
                self._told[figure.kind] = before = figure
            told.append(before)
        self._told = {figure.kind: figure for figure in told}
        return tuple(told)


def _moved(before: Figure, after: Figure) -> bool:
    pairs = (
        (before.bytes_per_s / before.factor, after.bytes_per_s / after.factor),
        (before.overhead_us * before.factor, after.overhead_us * after.factor),
        (before.stage_us, after.stage_us),
        (before.prefill_bytes_per_s, after.prefill_bytes_per_s),
    )
    return any(abs(new - old) > TOLD_STEP * max(old, 1.0) for old, new in pairs)
