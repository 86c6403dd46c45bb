"""What is measured of the stages here, for whoever keeps figures: at load, and while they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from peerinfer.engine.kinds import LLAMA
from peerinfer.models.facts import ModelFacts
from peerinfer.pipeline.times import StageTimes

LOOK_S: Final = 10.0
"""How often running stages are looked at."""
SINGLES_MIN: Final = 20
"""Steps of one token between two looks that make a figure: fewer are noise."""
BUSY_WAIT_S: Final = 2.0
"""A stage that was loaded is measured while no other works here; this long that is waited for."""
STEP_US: Final = 150.0
"""Of a step in daemon and child besides its pipe and its layers: orders, checks, encoding, picking a token."""


@dataclass(frozen=True, slots=True)
class StageShape:
    """What kind of work a stage is."""

    architecture: str
    quantisation: str
    layers: int
    layer_bytes: int
    """Of one of its layers, on average."""
    head_bytes: int
    """0 on a stage that is not the last."""
    heaviest_bytes: int = 0
    """Of the heaviest layer of the model, in this stage or another."""
    engine: str = LLAMA
    on_host: int = 0
    """Of its layers, those that the processor computes although there is an accelerator."""


@dataclass(frozen=True, slots=True)
class StageFigures:
    """What was measured of one, in microseconds; see `telemetry.calibration.StageSample`."""

    shape: StageShape
    decode_us: float
    head_us: float
    prefill_us: float
    stage_us: float


class Meter(Protocol):
    """Who keeps the figures."""

    def wants(self, shape: StageShape, /) -> bool:
        """Whether a stage of this kind should be measured when it is loaded."""
        ...

    def learn(self, figures: StageFigures, /) -> None:
        """A stage was measured after it was loaded."""
        ...

    def correct(self, figures: StageFigures, /) -> None:
        """What a running stage takes: `decode_us` is its engine's whole time for a token."""
        ...


class NoMeter:
    """Keeps nothing."""

    def wants(self, shape: StageShape, /) -> bool:
        """Nothing."""
        del shape
        return False

    def learn(self, figures: StageFigures, /) -> None:
        """Not asked."""

    def correct(self, figures: StageFigures, /) -> None:
        """Not kept."""


def shape_of(facts: ModelFacts, layers: tuple[int, int], engine: str, accelerated: int | None = None) -> StageShape:
    """The shape of the stage with this half-open range of layers, run by `engine`, `accelerated` of them on a card.

    None leaves that to the engine, which takes the best device for all.
    """
    first, last = layers
    return StageShape(
        architecture=facts.architecture,
        quantisation=facts.quantisation,
        layers=last - first,
        layer_bytes=sum(facts.layer_bytes[first:last]) // (last - first),
        head_bytes=facts.head_bytes if last == facts.n_layers else 0,
        heaviest_bytes=max(facts.layer_bytes),
        engine=engine,
        on_host=0 if accelerated is None else last - first - accelerated,
    )


class Watch:
    """One stage's averages, looked at from time to time."""

    def __init__(self, shape: StageShape, times: StageTimes) -> None:
        self.shape = shape
        self._times = times
        self._seen = 0

    def look(self) -> StageFigures | None:
        """What it takes now; None if it ran too little since the last figure."""
        times = self._times
        if times.singles - self._seen < SINGLES_MIN:
            return None
        self._seen = times.singles
        stage_ms = times.pipe_ms + times.child_ms + times.sampling_ms
        return StageFigures(self.shape, times.single_ms * 1000, 0.0, 0.0, stage_ms * 1000)
