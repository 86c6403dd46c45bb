"""What a stage takes on a node's device, by what the node told of its speed, or else by a guess. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.control.priors import prior
from peerinfer.gossip.snapshot import Device, EngineSpeed

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

    A guess of the rate is never mixed with a measured overhead: a figure is taken whole.
    """
    here = [one for one in speeds if (one.engine, one.device) == (engine, kind)]
    alike = [one for one in here if one.quantisation == quantisation]
    same = [one for one in alike if one.architecture == architecture]
    found = next(iter((*same, *alike, *here)), None)
    if found is None:
        guess = prior(devices, kind)
        rate, overhead_us, prefill, stage_us = (
            guess.bytes_per_s,
            guess.overhead_us,
            guess.prefill_bytes_per_s,
            guess.stage_us,
        )
    else:
        rate, overhead_us, prefill, stage_us = (
            found.bytes_per_s,
            found.overhead_us,
            found.prefill_bytes_per_s,
            found.stage_us,
        )
    rate = min(RATE_MAX, max(RATE_MIN, rate))
    return StageNumbers(
        layer_us=layer_bytes / rate * 1e6 + min(US_MAX, overhead_us),
        head_us=head_bytes / rate * 1e6,
        prefill_layer_us=layer_bytes / min(RATE_MAX, max(RATE_MIN, prefill)) * 1e6 if prefill > 0 else 0.0,
        stage_us=min(US_MAX, stage_us),
        is_measured=found is not None and found.samples > 0,
    )
