"""The processor: its name as its maker calls it, and the cores that this process may use."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

from peerinfer.telemetry.facts import DeviceFacts, Reading

SYSCTL_TIMEOUT_S: Final = 2.0
"""`sysctl` answers in milliseconds; a hung one must not hold the daemon."""


class ProcessorProbe:
    """One device of kind `cpu`."""

    name = "processor"
    every_s = math.inf

    def read(self) -> Reading:
        """Name and cores."""
        return Reading(devices=(DeviceFacts(kind="cpu", name=_model_name(), cores=usable_cores()),))


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model_name() -> str:
    try:
        name = _vendor_name()
    except (OSError, subprocess.SubprocessError):
        name = ""
    return name or platform.processor() or platform.machine()


def _vendor_name() -> str:
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415  only Windows has it

        place = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.check_output(command, text=True, timeout=SYSCTL_TIMEOUT_S).strip()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""
