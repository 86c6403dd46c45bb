"""Whose link is measured when: one probe at a time, rarely, and never while requests run at either end. Pure.

A probe asks first, then sends a burst in the lane of activations. The receiver takes the time from the middle of the
burst to its last byte: the beginning tells of buffers and of TCP's slow start, and a round trip is not in it at all. A
burst that was over too soon to be measured is followed by one twice as large.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from peerinfer.net.effects import SendTo
from peerinfer.net.probe_messages import BURST_MAX_BYTES, CHUNK_BYTES, ProbeAsk, ProbeChunk, ProbeReady, ProbeResult
from peerinfer.telemetry.links import LinkBook

FIRST_S: Final = 3.0
"""After a link is new: whatever starts has started by then."""
INTERVAL_S: Final = 60.0
INTERVAL_MAX_S: Final = 600.0
"""Between two probes of a link: twice as long each time while they agree."""
BUSY_S: Final = 10.0
"""Until a peer that was busy is asked again."""
ANSWER_S: Final = 5.0
"""A probe without an answer for so long is over."""
BURST_MIN_BYTES: Final = 4 * CHUNK_BYTES
"""A quarter of a second at 1 Mbit/s."""
LONG_ENOUGH_US: Final = 20_000
"""A burst that took less says little: the event loop's own steps are a part of it."""
AGREES: Final = 0.3
"""Rates that differ by less agree."""
GRANT_GAP_S: Final = 0.05
"""Between two bursts that a node takes: who asks faster is refused."""


@dataclass(frozen=True, slots=True)
class SendBurst:
    """Send so many bytes to a peer, in chunks, as probe `number`."""

    to: str
    number: int
    size_bytes: int


Effect = SendTo | SendBurst


@dataclass(slots=True)
class _Plan:
    """When a link is measured next."""

    due_at: float
    size_bytes: int = BURST_MIN_BYTES
    interval_s: float = INTERVAL_S
    last_rate: float = 0.0


@dataclass(slots=True)
class _Taking:
    """A burst that comes in."""

    sender: str
    number: int
    size_bytes: int
    granted_at: float
    got_bytes: int = 0
    counted_bytes: int = 0
    began_us: int | None = None


class Prober:
    """The probes of one node, sent and taken."""

    def __init__(self, book: LinkBook) -> None:
        self._book = book
        self._plans: dict[str, _Plan] = {}
        self._asked: tuple[str, int, float] | None = None
        """(peer, number, when) of the probe under way."""
        self._is_sent = False
        """Whether its burst has begun: a second answer begins no second one."""
        self._taking: _Taking | None = None
        self._taken_at = float("-inf")
        self._number = 0

    def tick(self, peers: Collection[str], now: float, *, is_busy: bool) -> tuple[Effect, ...]:
        """Begins the probe that is due longest, if there is one and nobody works here."""
        self._plans = {peer: self._plans.get(peer, _Plan(now + FIRST_S)) for peer in sorted(peers)}
        if self._asked is not None:
            peer, _, since = self._asked
            if peer in self._plans and now - since < ANSWER_S:
                return ()
            self._asked = None
            if peer in self._plans:
                self._plans[peer].due_at = now + INTERVAL_S
        if self._taking is not None and now - self._taking.granted_at > ANSWER_S:
            self._taking = None
        due = [peer for peer, plan in self._plans.items() if now >= plan.due_at]
        if is_busy or self._taking is not None or not due:
            return ()
        peer = min(due, key=lambda one: self._plans[one].due_at)
        self._number += 1
        self._asked, self._is_sent = (peer, self._number, now), False
        return (SendTo(peer, ProbeAsk(self._number, self._plans[peer].size_bytes)),)

    def soon(self, peer: str, now: float) -> None:
        """The link with `peer` is another one now: measure it again before long."""
        plan = self._plans.get(peer)
        if plan is not None:
            plan.due_at, plan.interval_s = now + FIRST_S, INTERVAL_S

    def receive(self, sender: str, message: object, now_us: int, *, is_busy: bool) -> tuple[Effect, ...]:
        """Takes the four messages of `probe_messages`. `now_us` is the arrival in microseconds, monotonic."""
        match message:
            case ProbeAsk():
                return self._ask(sender, message, now_us / 1e6, is_busy=is_busy)
            case ProbeReady():
                return self._ready(sender, message, now_us / 1e6)
            case ProbeChunk():
                return self._chunk(sender, message, now_us)
            case ProbeResult():
                return self._result(sender, message, now_us / 1e6)
            case _:
                return ()

    def _ask(self, sender: str, ask: ProbeAsk, now: float, *, is_busy: bool) -> tuple[Effect, ...]:
        is_free = self._taking is None or now - self._taking.granted_at > ANSWER_S
        fits = 0 < ask.size_bytes <= BURST_MAX_BYTES
        is_welcome = is_free and fits and not is_busy and now - self._taken_at >= GRANT_GAP_S
        if self._asked is not None and self._asked[0] != sender:
            is_welcome = False  # one probe at a time, both ways; of two that ask each other both may go
        if is_welcome:
            self._taking = _Taking(sender, ask.number, ask.size_bytes, now)
        return (SendTo(sender, ProbeReady(ask.number, is_welcome)),)

    def _ready(self, sender: str, ready: ProbeReady, now: float) -> tuple[Effect, ...]:
        if self._asked is None or self._asked[:2] != (sender, ready.number) or self._is_sent:
            return ()
        plan = self._plans[sender]
        if ready.is_welcome:
            self._asked, self._is_sent = (sender, ready.number, now), True
            return (SendBurst(sender, ready.number, plan.size_bytes),)
        self._asked = None
        plan.due_at = now + BUSY_S
        return ()

    def _chunk(self, sender: str, chunk: ProbeChunk, now_us: int) -> tuple[Effect, ...]:
        taking = self._taking
        if taking is None or (taking.sender, taking.number) != (sender, chunk.number):
            return ()
        if taking.began_us is not None:
            taking.counted_bytes += len(chunk.data)
        taking.got_bytes += len(chunk.data)
        if taking.began_us is None and taking.got_bytes * 2 >= taking.size_bytes:
            taking.began_us = now_us
        if not chunk.is_last and taking.got_bytes < taking.size_bytes:
            return ()
        self._taking, self._taken_at = None, now_us / 1e6
        took_us = max(1, now_us - taking.began_us) if taking.began_us is not None else 0
        return (SendTo(sender, ProbeResult(taking.number, taking.counted_bytes, took_us)),)

    def _result(self, sender: str, result: ProbeResult, now: float) -> tuple[Effect, ...]:
        if self._asked is None or self._asked[:2] != (sender, result.number):
            return ()
        self._asked = None
        plan = self._plans[sender]
        if not 0 < result.size_bytes <= plan.size_bytes or result.took_us <= 0:
            plan.due_at = now + INTERVAL_S
            return ()
        if result.took_us < LONG_ENOUGH_US and plan.size_bytes < BURST_MAX_BYTES:
            plan.size_bytes = min(BURST_MAX_BYTES, plan.size_bytes * 2)
            plan.due_at = now + GRANT_GAP_S * 2
            return ()
        rate = result.size_bytes / result.took_us * 1e6
        agrees = plan.last_rate > 0 and abs(rate - plan.last_rate) < AGREES * plan.last_rate
        plan.interval_s = min(INTERVAL_MAX_S, plan.interval_s * 2) if agrees else INTERVAL_S
        plan.due_at, plan.last_rate = now + plan.interval_s, rate
        if result.took_us > 10 * LONG_ENOUGH_US:  # slow, or crowded: be gentler the next time
            plan.size_bytes = max(BURST_MIN_BYTES, plan.size_bytes // 2)
        self._book.measured(sender, rate, plan.interval_s, now)
        return ()
