"""How fast an engine runs layers here: figures that were measured, for placement. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerinfer.gossip.snapshot import Device, EngineSpeed


@dataclass(frozen=True, slots=True)
class StageNumbers:
    """What a stage takes on one device, in microseconds per token."""

    layer_us: float = 0.0
    head_us: float = 0.0
    prefill_layer_us: float = 0.0
    stage_us: float = 0.0
    is_measured: bool = False


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
    """What was measured of this kind of model."""
    del devices
    for speed in speeds:
        if (speed.engine, speed.device, speed.architecture, speed.quantisation) == (
            engine,
            kind,
            architecture,
            quantisation,
        ):
            return StageNumbers(
                layer_us=layer_bytes / speed.bytes_per_s * 1e6 + speed.overhead_us,
                head_us=head_bytes / speed.bytes_per_s * 1e6,
                prefill_layer_us=layer_bytes / speed.prefill_bytes_per_s * 1e6 if speed.prefill_bytes_per_s else 0.0,
                stage_us=speed.stage_us,
                is_measured=speed.samples > 0,
            )
    return StageNumbers()
