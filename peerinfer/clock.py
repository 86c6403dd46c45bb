"""Time as a value: the one place that reads the machine's clocks.

Pure machines take `now: float` (seconds, monotonic) as an argument; doors read it here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Gives seconds on a monotonic clock with an arbitrary origin."""


def monotonic() -> float:
    """Seconds on this machine's monotonic clock; it stands still while the machine sleeps."""
    return time.monotonic()


def boottime() -> float:
    """Seconds on a clock that goes on while the machine sleeps; where there is none, the same as `monotonic`.

    Linux has CLOCK_BOOTTIME; on macOS CLOCK_MONOTONIC counts sleep, unlike the clock behind `time.monotonic`.
    Windows counts sleep in its one clock.
    """
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


def monotonic_us() -> int:
    """Microseconds on the same clock as `monotonic`, for stamps that travel in a frame header."""
    return time.monotonic_ns() // 1000


def wall() -> float:
    """Seconds since 1970 by the wall clock: for people and certificates only, never for a decision."""
    return time.time()
