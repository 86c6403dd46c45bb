"""What a stage takes on a node's device, by what the node told of its speed, or else by a guess. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.control.priors import Prior, prior
from peerinfer.gossip.snapshot import Device, EngineSpeed, size_class

RATE_MIN: Final = 1e6
RATE_MAX: Final = 1e14
US_MAX: Final = 60e6
"""Bounds of what any member says of itself: numbers beyond are no measurements, and would make sums overflow."""


@dataclass(frozen=True, slots=True)
class StageNumbers:
    """What a stage takes on one device, in microseconds per token."""

    layer_us: float
    head_us: float
    prefill_layer_us: float
    stage_us: float
    is_measured: bool


def stage_numbers(
    speeds: Sequence[EngineSpeed],
    devices: Sequence[Device],
    *,
    engine: str,
    kind: str,
    architecture: str,
    quantisation: str,
    layer_bytes: int,
    head_bytes: int,
) -> StageNumbers:
    """By what was measured of this kind of model; else of the same quantisation, of any, or guessed by the device.

    A figure is taken whole: a guess of the rate is never mixed with a measured overhead. Only where nothing but layers
    of another size was measured, light ones hide the rate and heavy ones the overhead: then a guess bounds both, and
    what comes out is a guess, too.
    """
    size = size_class(kind, layer_bytes)
    here = [one for one in speeds if (one.engine, one.device) == (engine, kind)]

    def unlike(one: EngineSpeed) -> tuple[bool, bool, bool, int]:
        return (
            one.size != size,
            one.quantisation != quantisation,
            one.architecture != architecture,
            abs(one.size - size),
        )

    found = min(here, key=unlike, default=None)
    if found is not None and found.size == size:
        known, samples = found, found.samples
    else:
        known, samples = _bounded(found, prior(devices, kind)), 0
    prefill = known.prefill_bytes_per_s
    rate = min(RATE_MAX, max(RATE_MIN, known.bytes_per_s))
    return StageNumbers(
        layer_us=layer_bytes / rate * 1e6 + min(US_MAX, known.overhead_us),
        head_us=head_bytes / rate * 1e6,
        prefill_layer_us=layer_bytes / min(RATE_MAX, max(RATE_MIN, prefill)) * 1e6 if prefill > 0 else 0.0,
        stage_us=min(US_MAX, known.stage_us),
        is_measured=samples > 0,
    )


def _bounded(found: EngineSpeed | None, guess: Prior) -> Prior:
    """The guess where nothing was measured; what was measured of layers of another size, bounded by the guess."""
    if found is None:
        return guess
    return Prior(
        bytes_per_s=max(found.bytes_per_s, guess.bytes_per_s),
        overhead_us=max(found.overhead_us, guess.overhead_us),
        prefill_bytes_per_s=max(found.prefill_bytes_per_s, guess.prefill_bytes_per_s),
        stage_us=found.stage_us,
    )
