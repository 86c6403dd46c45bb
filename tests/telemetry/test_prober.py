"""Probes of links under a virtual clock: rarely, one at a time, never beside work; and what hostile peers get."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.net.effects import SendTo
from peerinfer.net.probe_messages import BURST_MAX_BYTES, CHUNK_BYTES, ProbeAsk, ProbeChunk, ProbeReady, ProbeResult
from peerinfer.telemetry.links import KEPT, STALE_ROUNDS, LinkBook
from peerinfer.telemetry.prober import (
    ANSWER_S,
    BURST_MIN_BYTES,
    BUSY_S,
    FIRST_S,
    INTERVAL_MAX_S,
    INTERVAL_S,
    Effect,
    Prober,
    SendBurst,
)

A, B = "a", "b"


@dataclass
class Pair:
    """Two probers joined by a line of so many bytes per second; chunks take their time, messages none."""

    rate: float
    now: float = 0.0
    busy: set[str] = field(default_factory=set)
    lost: bool = False
    bursts: list[tuple[float, SendBurst]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.books = {A: LinkBook(), B: LinkBook()}
        self.nodes = {name: Prober(book) for name, book in self.books.items()}

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            for name, prober in self.nodes.items():
                other = B if name == A else A
                self._do(name, prober.tick([other], self.now, is_busy=name in self.busy))

    def _do(self, sender: str, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, SendBurst):
                self._burst(sender, effect)
            elif not self.lost:
                self._give(sender, effect.node, effect.message)

    def _give(self, sender: str, to: str, message: object) -> None:
        now_us = int(self.now * 1e6)
        self._do(to, self.nodes[to].receive(sender, message, now_us, is_busy=to in self.busy))

    def _burst(self, sender: str, burst: SendBurst) -> None:
        self.bursts.append((self.now, burst))
        began, left = self.now, burst.size_bytes
        while left > 0 and not self.lost:
            size = min(CHUNK_BYTES, left)
            left -= size
            self.now += size / self.rate
            self._give(sender, burst.to, ProbeChunk(burst.number, left == 0, bytes(size)))
        assert self.now >= began


@given(st.floats(2e5, 2e9))
def test_the_rate_is_found_whatever_it_is(rate: float) -> None:
    pair = Pair(rate)
    pair.run(30)
    for book, other in ((pair.books[A], B), (pair.books[B], A)):
        found = book.rate(other)
        assert 0.9 * rate < found < 1.1 * rate or (rate > 4e8 and found > 3e8)


def test_probes_become_rare_and_a_new_link_is_measured_again() -> None:
    pair = Pair(2e6)
    pair.run(2)
    assert not pair.bursts, "whatever starts has time to start"
    pair.run(2 * 3600)
    times = [at for at, burst in pair.bursts if burst.to == B]
    gaps = [later - earlier for earlier, later in zip(times[-4:], times[-3:], strict=False)]
    assert all(INTERVAL_MAX_S <= gap <= INTERVAL_MAX_S + 2 for gap in gaps)
    before = len(pair.bursts)
    pair.nodes[A].soon(B, pair.now)
    pair.run(FIRST_S + 1)
    assert len(pair.bursts) > before


def test_nobody_measures_beside_work() -> None:
    pair = Pair(2e6, busy={A})
    pair.run(60)
    assert pair.bursts == []
    pair.busy = set()
    pair.run(BUSY_S + 5)
    assert {burst.to for _, burst in pair.bursts} == {A, B}


def test_a_probe_that_nobody_answers_ends() -> None:
    pair = Pair(2e6, lost=True)
    pair.run(FIRST_S + ANSWER_S + 1)
    pair.lost = False
    pair.run(INTERVAL_S + 10)
    assert pair.books[A].rate(B) > 0


def test_a_slow_link_is_not_asked_for_much() -> None:
    pair = Pair(1e5)
    pair.run(1200)
    assert max(burst.size_bytes for _, burst in pair.bursts) <= 2 * BURST_MIN_BYTES


# What a hostile peer gets


def chunk(number: int, size: int = CHUNK_BYTES, *, is_last: bool = False) -> ProbeChunk:
    return ProbeChunk(number, is_last, bytes(size))


def answers(effects: tuple[Effect, ...]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, SendTo)]


def test_what_was_not_asked_for_changes_nothing() -> None:
    book = LinkBook()
    prober = Prober(book)
    prober.tick([B], 0.0, is_busy=False)
    for message in (chunk(7), chunk(7, is_last=True), ProbeReady(7, True), ProbeResult(7, 10**6, 1), object()):
        assert prober.receive(B, message, 5_000_000, is_busy=False) == ()
    assert book.rate(B) == 0


def test_a_second_welcome_begins_no_second_burst() -> None:
    prober = Prober(LinkBook())
    prober.tick([B], 0.0, is_busy=False)
    (ask,) = answers(prober.tick([B], FIRST_S, is_busy=False))
    assert isinstance(ask, ProbeAsk)
    ready = ProbeReady(ask.number, True)
    assert prober.receive(B, ready, int(FIRST_S * 1e6), is_busy=False) == (SendBurst(B, ask.number, BURST_MIN_BYTES),)
    assert prober.receive(B, ready, int(FIRST_S * 1e6) + 10, is_busy=False) == ()


def test_bursts_that_are_too_large_too_many_or_from_others_are_refused() -> None:
    prober = Prober(LinkBook())
    for size in (0, -5, BURST_MAX_BYTES + 1, 2**62):
        assert answers(prober.receive(B, ProbeAsk(1, size), 0, is_busy=False)) == [ProbeReady(1, False)]
    assert answers(prober.receive(B, ProbeAsk(2, 4 * CHUNK_BYTES), 10**6, is_busy=False)) == [ProbeReady(2, True)]
    assert answers(prober.receive("c", ProbeAsk(9, 4 * CHUNK_BYTES), 10**6, is_busy=False)) == [ProbeReady(9, False)]
    assert prober.receive("c", chunk(2), 10**6, is_busy=False) == ()
    for _ in range(3):
        assert prober.receive(B, chunk(2), 10**6 + 10, is_busy=False) == ()
    (result,) = answers(prober.receive(B, chunk(2), 10**6 + 500, is_busy=False))
    assert isinstance(result, ProbeResult)
    assert result.size_bytes <= 4 * CHUNK_BYTES
    refused = answers(prober.receive(B, ProbeAsk(3, CHUNK_BYTES), 10**6 + 600, is_busy=False))
    assert refused == [ProbeReady(3, False)], "a flood is refused"
    assert answers(prober.receive(B, ProbeAsk(4, CHUNK_BYTES), 10**6, is_busy=True)) == [ProbeReady(4, False)]


@given(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_a_result_that_cannot_be_is_no_figure(size_bytes: int, took_us: int) -> None:
    book = LinkBook()
    prober = Prober(book)
    prober.tick([B], 0.0, is_busy=False)
    (ask,) = answers(prober.tick([B], FIRST_S, is_busy=False))
    assert isinstance(ask, ProbeAsk)
    prober.receive(B, ProbeReady(ask.number, True), int(FIRST_S * 1e6), is_busy=False)
    prober.receive(B, ProbeResult(ask.number, size_bytes, took_us), int(FIRST_S * 1e6), is_busy=False)
    assert 0 <= book.rate(B) <= BURST_MAX_BYTES * 1e6


# What is told


@given(st.lists(st.floats(1e5, 1e9), min_size=1, max_size=20))
def test_what_is_told_is_nearly_always_reached(rates: list[float]) -> None:
    book = LinkBook()
    for at, rate in enumerate(rates):
        book.measured(B, rate, INTERVAL_S, float(at))
    kept = sorted(rates[-KEPT:])
    assert book.rate(B) == (kept[1] if len(kept) == KEPT else kept[0])


def test_noise_is_not_told_and_an_old_figure_is_marked() -> None:
    book = LinkBook()
    book.measured(B, 1e7, INTERVAL_S, 0.0)
    (first,) = book.told({B: 300.0}, 1.0)
    assert (first.rtt_us, first.bandwidth_bytes_per_s, first.is_stale) == (300.0, 1e7, False)
    assert book.told({B: 330.0}, 2.0) == (first,)
    (moved,) = book.told({B: 400.0}, 3.0)
    assert moved.rtt_us == 400.0
    (old,) = book.told({B: 400.0}, STALE_ROUNDS * INTERVAL_S + 1)
    assert old.is_stale
    assert book.told({}, 5.0) == ()
    (anew,) = book.told({B: 400.0}, 6.0)
    assert anew.bandwidth_bytes_per_s == 0, "a link that was gone is another one"
