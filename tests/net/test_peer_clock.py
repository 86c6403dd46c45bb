"""Round trips and clock offsets from the heartbeat."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.net.peer_clock import WINDOW_PINGS, PeerClock


def beat(clock: PeerClock, now_us: int, offset_us: int, there_us: int, back_us: int) -> None:
    clock.pinged(now_us)
    assert clock.answered(now_us, now_us + there_us + offset_us, now_us + there_us + back_us)


def test_nothing_is_known_before_the_first_pong():
    clock = PeerClock()
    assert (clock.rtt_us, clock.rtt_min_us, clock.offset_us, clock.local_us(5)) == (None, None, None, None)


def test_the_offset_is_that_of_the_quickest_ping():
    clock = PeerClock()
    beat(clock, 1_000, 500_000, there_us=30, back_us=30)
    beat(clock, 2_000, 500_000, there_us=900, back_us=10)
    assert clock.rtt_min_us == 60
    assert clock.offset_us == 500_000
    assert clock.local_us(500_123) == 123
    assert clock.rtt_us == 60 + (910 - 60) / 8


def test_the_window_forgets():
    clock = PeerClock()
    beat(clock, 0, 7, there_us=1, back_us=1)
    for n in range(1, WINDOW_PINGS + 1):
        beat(clock, n * 1000, 7, there_us=50, back_us=50)
    assert clock.rtt_min_us == 100


def test_a_pong_for_no_ping_teaches_nothing():
    clock = PeerClock()
    clock.pinged(10)
    assert not clock.answered(11, 99, 20)
    assert clock.answered(10, 99, 20)
    assert not clock.answered(10, 99, 20)
    assert clock.rtt_us == 10


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=100),
)
def test_the_offset_is_never_off_by_more_than_half_the_smallest_round_trip(offset: int, paths: list[tuple[int, int]]):
    clock = PeerClock()
    for n, (there, back) in enumerate(paths):
        beat(clock, n * 10**7, offset, there, back)
    assert clock.offset_us is not None
    assert clock.rtt_min_us is not None
    assert abs(clock.offset_us - offset) <= clock.rtt_min_us / 2 + 1
