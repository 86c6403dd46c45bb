"""Power: whether the machine runs on its battery at the moment."""

from __future__ import annotations

from typing import Any

import psutil

from peerinfer.telemetry.facts import Reading

_psutil: Any = psutil


class BatteryProbe:
    """On battery or on mains; a machine without a battery is on mains."""

    name = "battery"
    every_s = 2.0
    """Pulling a plug often comes before closing a lid."""

    def read(self) -> Reading:
        """`on_battery` is None where the system does not tell at all."""
        sensors = getattr(_psutil, "sensors_battery", None)  # absent on systems that psutil cannot ask
        if sensors is None:
            return Reading()
        battery = sensors()
        if battery is None:
            return Reading(on_battery=False)
        plugged = battery.power_plugged
        percent = float(battery.percent) if battery.percent is not None else None
        return Reading(on_battery=None if plugged is None else not plugged, battery_percent=percent)
