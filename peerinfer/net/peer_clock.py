"""What the heartbeat tells of a link: round-trip time, and how far the peer's clock is ahead of ours. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_PINGS: Final = 64
"""Pings looked back on, 32 s of heartbeats: long enough to hold one that met no queue, short enough for clock drift."""
SMOOTHING: Final = 0.125
"""Weight of the newest round trip in the moving average (RFC 6298, section 2)."""


class PeerClock:
    """Round-trip times and the clock offset of one peer, all in microseconds.

    The offset is taken at the smallest round trip of the window, where the halves of the path are most alike
    (NTP's clock filter, RFC 5905, section 10).
    """

    __slots__ = ("_pings", "_samples", "rtt_us")

    def __init__(self) -> None:
        self._pings: deque[int] = deque(maxlen=WINDOW_PINGS)
        self._samples: deque[tuple[int, int]] = deque(maxlen=WINDOW_PINGS)
        self.rtt_us: float | None = None
        """Moving average of the round trip; None before the first pong."""

    def pinged(self, sent_us: int) -> None:
        """A ping left with this stamp."""
        self._pings.append(sent_us)

    def answered(self, sent_us: int, answered_us: int, now_us: int) -> bool:
        """A pong came at `now_us`. Returns false, and learns nothing, if it answers no ping of ours."""
        if sent_us not in self._pings:
            return False
        self._pings.remove(sent_us)
        rtt = max(0, now_us - sent_us)
        self._samples.append((rtt, answered_us - (sent_us + rtt // 2)))
        self.rtt_us = float(rtt) if self.rtt_us is None else self.rtt_us + SMOOTHING * (rtt - self.rtt_us)
        return True

    @property
    def rtt_high_us(self) -> float | None:
        """What nine of ten round trips of the window do not exceed; None before the first pong."""
        ordered = sorted(rtt for rtt, _ in self._samples)
        return float(ordered[(len(ordered) - 1) * 9 // 10]) if ordered else None

    @property
    def rtt_min_us(self) -> int | None:
        """The smallest round trip of the window; None before the first pong."""
        return min(self._samples)[0] if self._samples else None

    @property
    def offset_us(self) -> int | None:
        """The peer's clock minus ours; None before the first pong."""
        return min(self._samples)[1] if self._samples else None

    def local_us(self, peer_us: int) -> int | None:
        """A stamp of the peer's clock on ours; None before the first pong."""
        offset = self.offset_us
        return None if offset is None else peer_us - offset
