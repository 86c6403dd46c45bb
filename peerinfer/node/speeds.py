"""What this machine knows of its own speed: the pipeline's meter, on disk, and told to the mesh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from peerinfer.clock import wall
from peerinfer.gossip.snapshot import SPEEDS_MAX, EngineSpeed, size_class
from peerinfer.pipeline.metering import StageFigures, StageShape
from peerinfer.telemetry.calibration import Calibration, Figure, Kind, StageSample
from peerinfer.telemetry.calibration_file import CalibrationFile
from peerinfer.telemetry.facts import DeviceFacts

CALIBRATION_FILE: Final = "calibration.json"
SAVE_EVERY_S: Final = 300.0
"""Corrections are written so often at most; what was measured at a load is written at once."""


class Speeds:
    """A `pipeline.metering.Meter` over one home.

    `devices` are those of this machine, `accelerators` the kinds among them that an engine computes with, or None while
    that is not known.
    """

    def __init__(
        self,
        home: Path,
        threads: int,
        devices: Callable[[], tuple[DeviceFacts, ...]],
        accelerators: Callable[[str], tuple[str, ...] | None],
    ) -> None:
        self._threads = threads
        self._devices = devices
        self._accelerators = accelerators
        self._file = CalibrationFile(home / CALIBRATION_FILE)
        self._calibration = Calibration(self._file.load())
        self._saved_at = wall()

    def wants(self, shape: StageShape, /) -> bool:
        """See `Meter.wants`."""
        kind = self._kind(shape)
        return kind is not None and not self._calibration.is_known(kind, wall())

    def learn(self, figures: StageFigures, /) -> None:
        """See `Meter.learn`."""
        sample = self._sample(figures)
        if sample is not None and self._calibration.learn(sample, wall()):
            self._save()

    def correct(self, figures: StageFigures, /) -> None:
        """See `Meter.correct`."""
        sample = self._sample(figures)
        if sample is not None:
            self._calibration.correct(sample)
        if wall() - self._saved_at > SAVE_EVERY_S:
            self._save()

    def told(self) -> tuple[EngineSpeed, ...]:
        """The figures of this machine as it is set up now, for its snapshot."""
        here = [one for one in self._calibration.told() if self._is_here(one)]
        return tuple(_speed(one) for one in here[:SPEEDS_MAX])

    def _is_here(self, figure: Figure) -> bool:
        kind = figure.kind
        is_used = kind.device in (*(self._accelerators(kind.engine) or ()), "cpu") and kind.threads == self._threads
        return is_used and (kind.device, kind.device_name) == self._found(kind.device)

    def _save(self) -> None:
        self._saved_at = wall()
        self._file.save(self._calibration.figures)

    def _sample(self, figures: StageFigures) -> StageSample | None:
        shape, kind = figures.shape, self._kind(figures.shape)
        if kind is None:
            return None
        return StageSample(
            kind=kind,
            layers=shape.layers,
            layer_bytes=shape.layer_bytes,
            head_bytes=shape.head_bytes,
            decode_us=figures.decode_us,
            head_us=figures.head_us,
            prefill_us=figures.prefill_us,
            stage_us=figures.stage_us,
        )

    def _kind(self, shape: StageShape) -> Kind | None:
        """None for a stage that two devices share, whose times say nothing of either, and while it is not known what
        its engine computes with.
        """
        accelerators = self._accelerators(shape.engine)
        if accelerators is None or 0 < shape.on_host < shape.layers:
            return None
        device, name = self._found(*(() if shape.on_host else accelerators), "cpu")
        size = size_class(device, shape.heaviest_bytes)
        return Kind(shape.engine, device, name, self._threads, shape.architecture, shape.quantisation, size)

    def _found(self, *wanted: str) -> tuple[str, str]:
        """Kind and name of the first of these kinds of devices that is here."""
        found = [device for kind in wanted for device in self._devices() if device.kind == kind]
        return (found[0].kind, found[0].name) if found else ("cpu", "")


def _speed(figure: Figure) -> EngineSpeed:
    """A figure with its correction, rounded: digits that nobody measured are noise on the wire."""
    kind = figure.kind
    return EngineSpeed(
        engine=kind.engine,
        device=kind.device,
        architecture=kind.architecture,
        quantisation=kind.quantisation,
        bytes_per_s=_rounded(figure.bytes_per_s / figure.factor),
        overhead_us=_rounded(figure.overhead_us * figure.factor),
        stage_us=_rounded(figure.stage_us),
        prefill_bytes_per_s=_rounded(figure.prefill_bytes_per_s / figure.factor),
        samples=figure.samples,
        size=kind.size,
    )


def _rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
