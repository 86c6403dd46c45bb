"""Power: whether the machine runs on its battery at the moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import psutil

from peerinfer.telemetry.facts import Reading
from peerinfer.telemetry.probes.sysfs import number, word

_psutil: Any = psutil
POWER_ROOT: Final = Path("/sys/class/power_supply")
MAINS: Final = ("Mains", "USB")
"""Kinds of supplies that come from the wall; many laptops have a socket for each."""


class BatteryProbe:
    """On battery or on mains; a machine without a battery is on mains."""

    name = "battery"
    every_s = 2.0
    """Pulling a plug often comes before closing a lid."""

    def read(self) -> Reading:
        """`on_battery` is None where the system does not tell at all."""
        # psutil takes the battery of a wireless mouse for the machine's, and knows two names of mains only
        return supplies(POWER_ROOT) if sys.platform == "linux" else sensors()


def sensors() -> Reading:
    """What psutil tells."""
    ask = getattr(_psutil, "sensors_battery", None)  # absent on systems that psutil cannot ask
    if ask is None:
        return Reading()
    battery = ask()
    if battery is None:
        return Reading(on_battery=False)
    plugged = battery.power_plugged
    percent = float(battery.percent) if battery.percent is not None else None
    return Reading(on_battery=None if plugged is None else not plugged, battery_percent=percent)


def supplies(root: Path) -> Reading:
    """What Linux shows (kernel documentation, ABI/testing/sysfs-class-power). Of several batteries the mean counts.

    What has the scope `Device` is the battery of a mouse or a headset. A plug that says it is in wins over a battery
    that says it is drained: a weak charger may do both.
    """
    try:
        own = [each for each in sorted(root.iterdir()) if word(each / "scope") != "Device"]
    except OSError:
        own = []  # a kernel without power supplies: a server, a container
    batteries = [each for each in own if word(each / "type") == "Battery" and word(each / "present") != "0"]
    if not batteries:
        return Reading(on_battery=False)
    charges = [charge for each in batteries if (charge := number(each / "capacity")) is not None]
    percent = sum(charges) / len(charges) if charges else None
    plugs = [(word(each / "type"), number(each / "online")) for each in own]
    states = {word(each / "status") for each in batteries}
    if any(online for kind, online in plugs if kind in MAINS):
        return Reading(on_battery=False, battery_percent=percent)
    if "Discharging" in states or ("Mains", 0) in plugs:
        return Reading(on_battery=True, battery_percent=percent)
    # nothing says more than "Full" or "Not charging", which a battery is at a plug only
    return Reading(on_battery=None if states <= {"", "Unknown"} else False, battery_percent=percent)
