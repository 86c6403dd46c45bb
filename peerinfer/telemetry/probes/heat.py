"""Pressure by heat: how near the machine is to slowing down, where it tells."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from typing import Final

from peerinfer.telemetry.facts import Reading
from peerinfer.telemetry.probes.commands import output_of
from peerinfer.telemetry.probes.sensors import Sensor, sensors

NOTIFYUTIL: Final = "/usr/bin/notifyutil"
PRESSURE_KEY: Final = "com.apple.system.thermalpressurelevel"
LEVELS: Final = ("nominal", "fair", "serious", "critical")
"""For macOS' levels 0 (nominal), 1 (moderate), 2 (heavy: it slows down), 3 (trapping) and 4 (sleeping), of
`OSThermalNotification.h`; the last two are one here: both come just before it cannot go on."""
STEADY: Final = 4
"""Readings that must agree before it counts as hotter: 20 s."""
MARK_MIN_C: Final = 50.0
"""No part of a computer is hot below it: some boards give a made-up sensor a mark of 20.8 °C."""
FAIR_C: Final = 10.0
"""Degrees below the mark at which a sensor counts as hot."""


class HeatProbe:
    """macOS by its own pressure level; Linux by the marks that sensors have for themselves; Windows does not tell."""

    name = "heat"
    every_s = 5.0

    def __init__(self) -> None:
        self._levels = deque([LEVELS[0]] * (STEADY - 1), maxlen=STEADY)  # the first reading may be of a burst, too

    def read(self) -> Reading:
        """`thermal` is empty where nothing tells."""
        if sys.platform == "darwin":
            return Reading(thermal=self._steady(apple_level(output_of(NOTIFYUTIL, "-g", PRESSURE_KEY))))
        return Reading(thermal=self._steady(sensor_level(sensors())))

    def _steady(self, level: str) -> str:
        """The mildest level of the last readings: a processor touches its mark in every burst of work."""
        self._levels.append(level)
        return min(self._levels, key=lambda one: LEVELS.index(one) if one in LEVELS else -1)


def apple_level(listing: str) -> str:
    """The level in what `notifyutil` prints: the key and a number."""
    words = listing.split()
    return LEVELS[min(int(words[1]), 3)] if len(words) == 2 and words[1].isdigit() else ""


def sensor_level(found: Iterable[Sensor]) -> str:
    """The worst level of all sensors that know what is hot for them."""
    worst = -1
    for sensor in found:
        mark = sensor.high_c or sensor.critical_c
        if not mark or sensor.current_c <= 0 or mark < MARK_MIN_C:
            continue
        level = 0
        if sensor.critical_c and sensor.current_c >= max(mark, sensor.critical_c):
            level = 3
        elif sensor.current_c >= mark:
            level = 2
        elif sensor.current_c >= mark - FAIR_C:
            level = 1
        worst = max(worst, level)
    return LEVELS[worst] if worst >= 0 else ""
