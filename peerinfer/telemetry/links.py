"""What a node knows of its links: rates that are nearly always reached, told so that noise makes no news. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

KEPT: Final = 5
"""Probes of a link that count: at ten minutes each, the last hour."""
TOLD_STEP: Final = 0.15
"""A figure that moved by less is told as before: neither Wi-Fi nor this loop stands still."""
STALE_ROUNDS: Final = 3.0
"""A rate whose probe is this many intervals ago is marked as stale."""


@dataclass(frozen=True, slots=True)
class LinkRate:
    """A link as it is told. Microseconds and bytes per second."""

    peer: str
    rtt_us: float
    bandwidth_bytes_per_s: float = 0.0
    """0 before the first probe."""
    is_stale: bool = False


@dataclass(slots=True)
class _Known:
    rates: deque[float] = field(default_factory=lambda: deque[float](maxlen=KEPT))
    measured_at: float = 0.0
    interval_s: float = 0.0
    told: LinkRate | None = None


class LinkBook:
    """Measurements by peer."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def measured(self, peer: str, rate: float, interval_s: float, now: float) -> None:
        """A probe gave `rate` bytes per second; the next comes in about `interval_s`."""
        known = self._known.setdefault(peer, _Known())
        known.rates.append(rate)
        known.measured_at, known.interval_s = now, interval_s

    def rate(self, peer: str) -> float:
        """What is nearly always reached, in bytes per second: the lowest of few probes, the second lowest of more."""
        known = self._known.get(peer)
        if known is None or not known.rates:
            return 0.0
        ordered = sorted(known.rates)
        return ordered[1] if len(ordered) >= KEPT else ordered[0]

    def keep_only(self, peers: set[str]) -> None:
        """Forgets links that are no more."""
        self._known = {peer: known for peer, known in self._known.items() if peer in peers}

    def told(self, rtt_us: dict[str, float], now: float) -> tuple[LinkRate, ...]:
        """Every link with its round trip (by peer), in order of peers; small changes are not told."""
        self.keep_only(set(rtt_us))
        rates: list[LinkRate] = []
        for peer, rtt in sorted(rtt_us.items()):
            known = self._known.setdefault(peer, _Known())
            is_stale = bool(known.rates) and now - known.measured_at > STALE_ROUNDS * known.interval_s
            fresh = LinkRate(peer, _rounded(rtt), _rounded(self.rate(peer)), is_stale)
            before = known.told
            if before is not None and not _moved(before.rtt_us, rtt):
                fresh = replace(fresh, rtt_us=before.rtt_us)
            if before is not None and not _moved(before.bandwidth_bytes_per_s, self.rate(peer)):
                fresh = replace(fresh, bandwidth_bytes_per_s=before.bandwidth_bytes_per_s)
            known.told = fresh
            rates.append(fresh)
        return tuple(rates)


def _moved(told: float, value: float) -> bool:
    return abs(value - told) > TOLD_STEP * told


def _rounded(value: float) -> float:
    """Two significant digits: more were not measured."""
    return float(f"{value:.2g}")
