"""The processor: its name as its maker calls it, and the cores that this process may use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psutil

from peerinfer.telemetry.facts import DeviceFacts, Reading

_psutil: Any = psutil
SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Drivers of the sensors in processors, as Linux names them."""
SYSCTL_TIMEOUT_S: Final = 2.0
"""`sysctl` answers in milliseconds; a hung one must not hold the daemon."""


class ProcessorProbe:
    """One device of kind `cpu`."""

    name = "processor"
    every_s = 5.0

    def __init__(self) -> None:
        self._name = ""
        _psutil.cpu_percent()  # the first answer spans from here

    def read(self) -> Reading:
        """Name, cores, and how it does since the last reading."""
        self._name = self._name or _model_name()
        return Reading(
            devices=(
                DeviceFacts(
                    kind="cpu",
                    name=self._name,
                    cores=usable_cores(),
                    utilisation=float(_psutil.cpu_percent()) / 100,
                    temperature_c=_temperature_c(),
                    clock_mhz=_clock_mhz(),
                ),
            )
        )


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _clock_mhz() -> float | None:
    """The present clock; None where psutil cannot tell (virtual machines, some Macs)."""
    try:
        clock = _psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return float(clock.current) if clock is not None and clock.current else None


def _temperature_c() -> float | None:
    """The hottest of the processor's own sensors; None where the system shows none."""
    sensors = getattr(_psutil, "sensors_temperatures", None)
    readings: Any = sensors() if sensors is not None else {}
    found = [float(one.current) for name in SENSORS for one in readings.get(name, ()) if one.current]
    return max(found, default=None)


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
