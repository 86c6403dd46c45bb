"""Whether somebody works at this machine: a yes or no, never who, or at what."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from peerinfer.telemetry.facts import Reading
from peerinfer.telemetry.probes.commands import output_of

ACTIVE_S: Final = 180.0
"""Somebody who touched keyboard or mouse within this time is at work."""
LOGINCTL: Final = "/usr/bin/loginctl"
IOREG: Final = "/usr/sbin/ioreg"
TERMINALS: Final = (Path("/dev"), "tty[0-9]*"), (Path("/dev/pts"), "[0-9]*")


class UserProbe:
    """macOS by the input system's idle time, Windows by the last input, Linux by the session's hint or terminals."""

    name = "user"
    every_s = 20.0

    def read(self) -> Reading:
        """`user_active` is None where nothing tells."""
        if sys.platform == "darwin":
            idle_s = hid_idle_s(output_of(IOREG, "-c", "IOHIDSystem", "-d", "4"))
        elif sys.platform == "win32":
            idle_s = _windows_idle_s()
        else:
            # with the user's number: without a user it shows the manager, which has no state
            hint = output_of(LOGINCTL, "show-user", str(os.getuid()), "-p", "IdleHint", "-p", "State")
            hinted = hinted_active(hint)
            if hinted is not None:
                return Reading(user_active=hinted)
            idle_s = terminals_idle_s((path for root, names in TERMINALS for path in root.glob(names)), time.time())
        return Reading(user_active=None if idle_s is None else idle_s < ACTIVE_S)


def hinted_active(listing: str) -> bool | None:
    """By what `loginctl show-user` prints; None where no desktop keeps the hint."""
    values = dict(line.split("=", 1) for line in listing.splitlines() if "=" in line)
    if values.get("State") != "active" or values.get("IdleHint") not in {"yes", "no"}:
        return None
    return values["IdleHint"] == "no"


def hid_idle_s(listing: str) -> float | None:
    """Seconds without input in what `ioreg` prints: `"HIDIdleTime" = 123456789` in nanoseconds."""
    match = re.search(r'"HIDIdleTime"\s*=\s*(\d{1,20})', listing)
    return int(match[1]) / 1e9 if match else None


def terminals_idle_s(terminals: Iterable[Path], now_s: float) -> float | None:
    """Seconds since anything was typed in a terminal; None without one. Linux notes it to within 8 s."""
    touched: list[float] = []
    for path in terminals:
        try:
            facts = path.stat()
        except OSError:
            continue
        if facts.st_uid == os.getuid():
            touched.append(facts.st_atime)
    return max(0.0, now_s - max(touched)) if touched else None


def _windows_idle_s() -> float | None:
    if sys.platform != "win32":
        return None
    import ctypes  # noqa: PLC0415  (the structure exists on Windows only)

    class LastInput(ctypes.Structure):
        _fields_ = (("size", ctypes.c_uint), ("ticks", ctypes.c_uint))

    last = LastInput(ctypes.sizeof(LastInput), 0)
    if not ctypes.windll.user32.GetLastInputInfo(ctypes.byref(last)):
        return None
    return ((ctypes.windll.kernel32.GetTickCount() - last.ticks) & 0xFFFFFFFF) / 1000
