"""All probes together: each read as often as it needs, each free to fail without harm to the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from peerinfer.telemetry.facts import Hardware, Probe, Reading
from peerinfer.telemetry.probes.battery import BatteryProbe
from peerinfer.telemetry.probes.memory import MemoryProbe
from peerinfer.telemetry.probes.nvidia import NvidiaProbe
from peerinfer.telemetry.probes.processor import ProcessorProbe

T = TypeVar("T")

RETRY_S: Final = 60.0
"""A probe that failed is asked again this much later: a driver may come, a log line per second may not."""


def default_probes() -> tuple[Probe, ...]:
    """Every probe there is; each knows by itself where it has nothing to say."""
    return (MemoryProbe(), ProcessorProbe(), NvidiaProbe(), BatteryProbe())


@dataclass(slots=True)
class _Source:
    probe: Probe
    reading: Reading = field(default_factory=Reading)
    trouble: str = ""
    next_at: float = -math.inf


class Collector:
    """Reads the probes whose readings are no longer good. A failed probe tells nothing and gives its reason."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._sources = [_Source(probe) for probe in probes]

    def hardware(self, now: float) -> Hardware:
        """This machine at `now` (seconds, monotonic)."""
        for source in self._sources:
            if now >= source.next_at:
                _refresh(source, now)
        readings = [source.reading for source in self._sources]
        return Hardware(
            memory_bytes=_first(reading.memory_bytes for reading in readings) or 0,
            memory_free_bytes=_first(reading.memory_free_bytes for reading in readings) or 0,
            devices=tuple(device for reading in readings for device in reading.devices),
            on_battery=_first(reading.on_battery for reading in readings),
            troubles=tuple((source.probe.name, source.trouble) for source in self._sources if source.trouble),
        )


def _refresh(source: _Source, now: float) -> None:
    try:
        source.reading, source.trouble = source.probe.read(), ""
        source.next_at = now + source.probe.every_s
    except Exception as error:  # drivers raise what they like; a machine without a probe still works
        source.reading, source.trouble = Reading(), f"{type(error).__name__}: {error}"
        source.next_at = now + RETRY_S


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)
