"""The lid: whether it is closed, where the system tells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from peerinfer.telemetry.facts import Reading
from peerinfer.telemetry.probes.commands import output_of
from peerinfer.telemetry.probes.sysfs import word

LID_ROOT: Final = Path("/proc/acpi/button/lid")
IOREG: Final = "/usr/sbin/ioreg"


class LidProbe:
    """Linux by ACPI, macOS by the power manager's registry entry; Windows does not tell a service."""

    name = "lid"
    every_s = 1.0
    """A machine sleeps a few seconds after its lid is closed: layers must be handed over in that time."""

    def __init__(self, root: Path = LID_ROOT) -> None:
        self._root = root
        if sys.platform == "darwin":
            self.every_s = 3.0  # a process each time

    def read(self) -> Reading:
        """`lid_closed` is None on a machine without a lid, or whose system does not tell."""
        if sys.platform == "darwin":
            return Reading(lid_closed=clamshell(output_of(IOREG, "-r", "-k", "AppleClamshellState", "-d", "1")))
        states = [word(path) for path in sorted(self._root.glob("*/state"))]
        known = [state for state in states if state.endswith(("open", "closed"))]
        return Reading(lid_closed=any(state.endswith("closed") for state in known) if known else None)


def clamshell(listing: str) -> bool | None:
    """The state in what `ioreg` prints: `"AppleClamshellState" = Yes`."""
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        if equals and '"AppleClamshellState"' in name:
            return value.strip() == "Yes"
    return None
