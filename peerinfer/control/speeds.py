"""What a stage takes on a node's device, by what the node told of its speed, or else by a guess. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.control.priors import prior
from peerinfer.engine.kinds import OUTGROWN
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

    A guess of the rate is never mixed with a measured overhead, but where much lighter layers were measured: those show
    the overhead, and hide the rate.
    """
    here = [one for one in speeds if (one.engine, one.device) == (engine, kind)]
    alike = [one for one in here if one.quantisation == quantisation]
    same = [one for one in alike if one.architecture == architecture]
    found = next(iter((*same, *alike, *here)), None)
    guess = prior(devices, kind)
    is_outgrown = found is not None and 0 < OUTGROWN * found.layer_bytes < layer_bytes
    known = found or guess
    rate, prefill = known.bytes_per_s, known.prefill_bytes_per_s
    if is_outgrown:
        rate, prefill = max(rate, guess.bytes_per_s), max(prefill, guess.prefill_bytes_per_s)
    rate = min(RATE_MAX, max(RATE_MIN, rate))
    return StageNumbers(
        layer_us=layer_bytes / rate * 1e6 + min(US_MAX, known.overhead_us),
        head_us=head_bytes / rate * 1e6,
        prefill_layer_us=layer_bytes / min(RATE_MAX, max(RATE_MIN, prefill)) * 1e6 if prefill > 0 else 0.0,
        stage_us=min(US_MAX, known.stage_us),
        is_measured=found is not None and found.samples > 0 and not is_outgrown,
    )
