"""Pressure by heat: how near the machine is to slowing down, where it tells."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psutil

from peerinfer.telemetry.facts import Reading
from peerinfer.telemetry.probes.commands import output_of

_psutil: Any = psutil
NOTIFYUTIL: Final = "/usr/bin/notifyutil"
PRESSURE_KEY: Final = "com.apple.system.thermalpressurelevel"
LEVELS: Final = ("nominal", "fair", "serious", "critical")
"""Apple's words for its levels 0, 1, 2, and 3 and above (`OSThermalNotification.h`)."""
STEADY: Final = 4
"""Readings that must agree before it counts as hotter: 20 s."""
FAIR_C: Final = 10.0
"""Degrees below the mark at which a sensor counts as hot."""


class HeatProbe:
    """macOS by its own pressure level; Linux by the marks that sensors have for themselves; Windows does not tell."""

    name = "heat"
    every_s = 5.0

    def __init__(self) -> None:
        self._levels: deque[str] = deque(maxlen=STEADY)

    def read(self) -> Reading:
        """`thermal` is empty where nothing tells."""
        if sys.platform == "darwin":
            return Reading(thermal=self._steady(apple_level(output_of(NOTIFYUTIL, "-g", PRESSURE_KEY))))
        sensors = getattr(_psutil, "sensors_temperatures", None)
        return Reading(thermal=self._steady(sensor_level(sensors()) if sensors is not None else ""))

    def _steady(self, level: str) -> str:
        """The mildest level of the last readings: a processor touches its mark in every burst of work."""
        self._levels.append(level)
        return min(self._levels, key=lambda one: LEVELS.index(one) if one in LEVELS else -1)


def apple_level(listing: str) -> str:
    """The level in what `notifyutil` prints: the key and a number."""
    words = listing.split()
    return LEVELS[min(int(words[1]), 3)] if len(words) == 2 and words[1].isdigit() else ""


def sensor_level(sensors: Mapping[str, Sequence[Any]]) -> str:
    """The worst level of all sensors that know what is hot for them."""
    worst = -1
    for readings in sensors.values():
        for reading in readings:
            hot, critical = reading.high, reading.critical
            mark = hot or critical
            if not mark or not reading.current or mark < FAIR_C:
                continue
            level = 0
            if critical and reading.current >= critical:
                level = 3
            elif reading.current >= mark:
                level = 2
            elif reading.current >= mark - FAIR_C:
                level = 1
            worst = max(worst, level)
    return LEVELS[worst] if worst >= 0 else ""
