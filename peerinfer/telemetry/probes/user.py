"""Whether somebody works at this machine: a yes or no, never who, or at what."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
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
            return Reading(user_active=_linux_active())
        return Reading(user_active=None if idle_s is None else idle_s < ACTIVE_S)


def _linux_active() -> bool | None:
    """By the hint of this user's desktop; else by terminals, which tell nothing of who uses the desktop only."""
    # with the user's number: without a user it shows the manager. The hint of all sessions of the user together is no
    # help: some versions count the one of the user's services, which is never idle.
    display = properties(output_of(LOGINCTL, "show-user", str(os.getuid()), "-p", "Display")).get("Display", "")
    session = properties(output_of(LOGINCTL, "show-session", display)) if display else {}
    hinted = hinted_active(session)
    if hinted is not None:
        return hinted
    idle_s = terminals_idle_s((path for root, names in TERMINALS for path in root.glob(names)), time.time())
    if idle_s is None or (is_desktop(session) and idle_s >= ACTIVE_S):
        return None
    return idle_s < ACTIVE_S


def properties(listing: str) -> dict[str, str]:
    """What `loginctl` prints, by name."""
    return dict(line.split("=", 1) for line in listing.splitlines() if "=" in line)


def is_desktop(session: Mapping[str, str]) -> bool:
    """Whether somebody has this session's desktop before him."""
    return session.get("Type") in {"x11", "wayland", "mir"} and session.get("State") == "active"


def hinted_active(session: Mapping[str, str]) -> bool | None:
    """By the properties of a login session (`org.freedesktop.login1(5)`); None where no desktop keeps the hint. Then
    the hint is "no" for ever, and the time of its last change is zero; so it is before the first pause at others."""
    if not is_desktop(session) or session.get("IdleHint") not in {"yes", "no"}:
        return None
    if session["IdleHint"] == "yes":
        return False
    return True if session.get("IdleSinceHint", "0") != "0" else None


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
