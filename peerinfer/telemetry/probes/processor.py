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
from peerinfer.telemetry.probes.sensors import sensors

_psutil: Any = psutil
SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Drivers of the sensors in processors, as Linux names them."""
COUNTED: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
"""What the time of a core is made of; Windows tells interrupts apart that are in its system time already."""
SYSCTL_TIMEOUT_S: Final = 2.0
"""`sysctl` answers in milliseconds; a hung one must not hold the daemon."""


class ProcessorProbe:
    """One device of kind `cpu`."""

    name = "processor"
    every_s = 5.0

    def __init__(self) -> None:
        self._name = ""
        self._times = _busy_and_all_s()  # the first answer spans from here

    def read(self) -> Reading:
        """Name, cores, and how it does since the last reading."""
        self._name = self._name or _model_name()
        before, self._times = self._times, _busy_and_all_s()
        return Reading(
            devices=(
                DeviceFacts(
                    kind="cpu",
                    name=self._name,
                    cores=usable_cores(),
                    utilisation=busy_share(before, self._times),
                    temperature_c=_temperature_c(),
                    clock_mhz=_clock_mhz(),
                ),
            )
        )


def busy_share(before: tuple[float, float], now: tuple[float, float]) -> float | None:
    """Share of the time between two readings of (busy, all) seconds; None if no time passed."""
    busy_s, all_s = now[0] - before[0], now[1] - before[1]
    return min(1.0, max(0.0, busy_s / all_s)) if all_s > 0 else None


def _busy_and_all_s() -> tuple[float, float]:
    """Seconds of all cores since the start. `psutil.cpu_percent` compares with what the same thread saw last, and each
    reading has a thread of its own. Time of guests is in that of users already (`proc_stat(5)`).
    """
    times: dict[str, float] = _psutil.cpu_times()._asdict()
    all_s = sum(seconds for kind, seconds in times.items() if kind in COUNTED)
    return all_s - times["idle"] - times.get("iowait", 0.0), all_s


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
    return max((one.current_c for one in sensors() if one.driver in SENSORS and one.current_c), default=None)


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
