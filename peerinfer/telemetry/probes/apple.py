"""Apple silicon: the chip's GPU, which shares the machine's memory."""

from __future__ import annotations

import platform
import sys

from peerinfer.telemetry.facts import DeviceFacts, Reading
from peerinfer.telemetry.probes.commands import output_of

SYSCTL = "/usr/sbin/sysctl"


class AppleProbe:
    """One device of kind `metal` on macOS with Apple silicon; asked by `sysctl`, since Metal itself is native code."""

    name = "apple"
    every_s = 600.0

    def read(self) -> Reading:
        """The chip, and the limit of what Metal may hold at once if somebody set one."""
        if sys.platform != "darwin" or platform.machine() != "arm64":
            return Reading()
        chip = output_of(SYSCTL, "-n", "machdep.cpu.brand_string").strip()
        wired = output_of(SYSCTL, "-n", "iogpu.wired_limit_mb").strip()
        limit = f"may hold {wired} MB" if wired.isdigit() and int(wired) > 0 else ""
        return Reading(devices=(DeviceFacts(kind="metal", name=chip or "Apple silicon", capability=limit),))
