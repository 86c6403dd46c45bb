"""Temperatures as Linux shows them, with the marks that each sensor has for itself; what sleeps is not woken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peerinfer.telemetry.probes.sysfs import is_asleep, scaled, word

HWMON_ROOT: Final = Path("/sys/class/hwmon")
DEGREES: Final = 1e-3
"""The kernel counts in thousandths (kernel documentation, hwmon/sysfs-interface)."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One temperature in degrees Celsius."""

    driver: str
    """Of the part it sits in, as Linux names it."""
    current_c: float
    high_c: float | None = None
    """From here on the part is hot; None, as below, where it does not say."""
    critical_c: float | None = None


def sensors(root: Path = HWMON_ROOT) -> tuple[Sensor, ...]:
    """All that tell; psutil would wake a graphics card that sleeps, and takes one mark for the other."""
    found: list[Sensor] = []
    for part in sorted(root.glob("hwmon*")):
        if is_asleep(part / "device"):
            continue
        for path in sorted(part.glob("temp*_input")):
            current = scaled(path, DEGREES)
            if current is None:
                continue
            number = path.name.removesuffix("_input")
            high, critical = (scaled(part / f"{number}_{mark}", DEGREES) for mark in ("max", "crit"))
            found.append(Sensor(word(part / "name"), current, high, critical))
    return tuple(found)
