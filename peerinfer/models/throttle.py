"""Holds transfers of models back while this node computes, so that they take neither its line nor its processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from peerinfer.clock import Clock

BUSY_BYTES_PER_S: Final = 16 << 20
"""Of all transfers of this node together while requests run: about a seventh of a gigabit line."""
SLEEP_MAX_S: Final = 2.0
"""However much is to be paid for: a piece is 4 MiB, which takes a quarter of a second."""


class Throttle:
    """Lets bytes pass at once while `is_busy` says no, and at `BUSY_BYTES_PER_S` while it says yes."""

    def __init__(self, is_busy: Callable[[], bool], clock: Clock) -> None:
        self._is_busy = is_busy
        self._clock = clock
        self._free_at = 0.0

    async def pause(self, n_bytes: int) -> None:
        """Waits until `n_bytes` that have just passed are paid for."""
        if not self._is_busy():
            self._free_at = 0.0
            return
        self._free_at = max(self._free_at, self._clock()) + n_bytes / BUSY_BYTES_PER_S
        await asyncio.sleep(min(self._free_at - self._clock(), SLEEP_MAX_S))
