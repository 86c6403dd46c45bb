"""Tells that this machine slept, or this process stood still: what it believed of others is old then. Pure."""

from __future__ import annotations

from typing import Final

LATE_S: Final = 2.0
"""A look that comes so much later than it was due: a stopped process, or a machine with far too much to do."""
ASLEEP_S: Final = 1.0
"""Suspended for so long by the clock that goes on: shorter naps miss no more than a lost heartbeat does."""


class StallDetector:
    """Compares two clocks: `monotonic` stands still while the machine is suspended, `boottime` goes on (seconds).

    Look at least every `period_s`, and before anything is believed or said.
    """

    def __init__(self, period_s: float, monotonic: float, boottime: float) -> None:
        self._period_s = period_s
        self._monotonic = monotonic
        self._boottime = boottime

    def look(self, monotonic: float, boottime: float) -> float:
        """Seconds that were missed since the last look; 0.0 if that was no more than usual."""
        passed_s = monotonic - self._monotonic
        asleep_s = (boottime - self._boottime) - passed_s
        self._monotonic, self._boottime = monotonic, boottime
        late_s = passed_s - self._period_s
        missed_s = max(0.0, late_s) + max(0.0, asleep_s)
        return missed_s if late_s > LATE_S or asleep_s > ASLEEP_S else 0.0
