"""Stalls, sleep and farewells: whom a node accuses of silence, and whom it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.gossip.hearing import (
    SPARE_S,
    STALL_S,
)
from peerinfer.gossip.liveness import GONE_AFTER_S, UNREACHABLE_AFTER_S, Liveness
from peerinfer.gossip.messages import AskHeard, Heard
from tests.gossip.ears import TICK_S, B, Ears, X, question


def test_a_node_that_stood_still_accuses_nobody_for_a_lease_of_listening() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    ears.listen(1.75, hearing=[B])
    ears.now += 3600.0
    ears.listen(SPARE_S - 0.5)  # the late tick itself counts for half a second
    assert ears.state(X) is Liveness.ALIVE
    ears.listen(0.5)
    assert ears.state(X) is Liveness.UNREACHABLE


def test_even_between_ticks_a_stall_accuses_nobody() -> None:
    ears = Ears(X)
    ears.hear(X)
    ears.listen(1.0)
    ears.now += 3600.0
    assert ears.state(X) is Liveness.ALIVE


@pytest.mark.parametrize("step_s", [0.6, 1.9, STALL_S + 0.1, 30.0])
def test_an_overloaded_node_is_slow_to_accuse_yet_gets_there(step_s: float) -> None:
    ears = Ears(X)
    ears.hear(X)
    ears.listen(3 * step_s, step_s=step_s)
    assert ears.state(X) is Liveness.ALIVE
    ears.listen(10 * step_s, step_s=step_s)
    assert ears.state(X) is Liveness.UNREACHABLE
    ears.listen(30 * step_s, step_s=step_s)
    assert ears.state(X) is Liveness.GONE


@given(st.floats(0.0, 15.0), st.floats(0.0, 1e6))
def test_a_wake_makes_nobody_worse_for_a_lease(silence_s: float, slept_s: float) -> None:
    ears = Ears(X)
    ears.hear(X)
    ears.listen(silence_s)
    before = ears.state(X)
    ears.now += slept_s
    ears.hearing.wake(ears.now)
    assert ears.state(X) is before
    ears.listen(SPARE_S - TICK_S)
    assert ears.state(X) is before
    ears.listen(GONE_AFTER_S)
    assert ears.state(X) is Liveness.GONE


def test_who_slept_tells_no_ages_before_it_hears_again() -> None:
    ears = Ears(X)
    ears.hear(X)
    ears.hearing.wake(ears.now)
    assert ears.hearing.answer(AskHeard((X,), 1), ears.now) == Heard(1, ())
    ears.hear(X)
    assert ears.hearing.answer(AskHeard((X,), 2), ears.now) == Heard(2, ((X, 1, 0),))


def test_an_answer_from_before_the_sleep_is_void() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    asked = ears.listen(1.75, hearing=[B])
    ears.hearing.wake(ears.now)
    ears.listen(SPARE_S)
    ears.hearing.told(B, Heard(question(asked[-1]).number, ((X, 1, 0),)))
    assert ears.state(X) is Liveness.UNREACHABLE


# Farewell


def test_a_farewell_ends_it_at_once_until_it_is_heard_with_a_higher_incarnation() -> None:
    ears = Ears(X, B)
    ears.hear(X, B, incarnation=5)
    ears.hearing.left(X, 5, ears.now)
    assert ears.state(X) is Liveness.GONE
    assert ears.hearing.direct() == {B}
    ears.hear(X, incarnation=5)
    ears.hear(X, incarnation=4)
    assert ears.state(X) is Liveness.GONE
    ears.hear(X, incarnation=6)
    assert ears.state(X) is Liveness.ALIVE
    assert ears.hearing.direct() == {B, X}


def test_no_neighbour_brings_back_who_said_farewell() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    asked = ears.listen(1.0 + TICK_S, hearing=[B])
    ears.hearing.left(X, 1, ears.now)
    ears.hearing.told(B, Heard(question(asked[0]).number, ((X, 2, 0),)))
    assert ears.state(X) is Liveness.GONE
    assert ears.listen(20.0, hearing=[B]) == []


def test_a_farewell_of_a_former_life_is_late() -> None:
    ears = Ears(X)
    ears.hear(X, incarnation=6)
    ears.hearing.left(X, 5, ears.now)
    assert ears.state(X) is Liveness.ALIVE


def test_a_stranger_s_farewell_is_nothing() -> None:
    ears = Ears(X)
    ears.hearing.left("stranger", 1, ears.now)
    assert ears.state("stranger") is Liveness.GONE


def test_after_a_return_an_older_link_counts_again() -> None:
    """A node that jumped above its own incarnation lives on links whose hello told the old one."""
    ears = Ears(X)
    ears.hear(X, incarnation=5)
    ears.hear(X, incarnation=9)
    ears.listen(5.0, hearing=[X])
    assert ears.state(X) is Liveness.ALIVE


@given(st.lists(st.tuples(st.sampled_from(["hear", "left", "tick"]), st.integers(0, 3)), max_size=40))
def test_the_state_is_that_of_a_naive_record(events: list[tuple[str, int]]) -> None:
    """An oracle that keeps the whole history: alive iff heard for 2 s, after any farewell that stands."""
    ears = Ears(X)
    left = highest = -1
    heard_at: float | None = None
    for kind, number in events:
        if kind == "tick":
            ears.listen(number * TICK_S)
        elif kind == "hear":
            ears.hear(X, incarnation=number)
            if number > left:
                heard_at, highest, left = ears.now, max(highest, number), -1
        else:
            ears.hearing.left(X, number, ears.now)
            if number >= highest:
                left = highest = number
        silence_s = ears.now - (1000.0 if heard_at is None else heard_at)
        alive = left < 0 and heard_at is not None and silence_s < UNREACHABLE_AFTER_S
        assert (ears.state(X) is Liveness.ALIVE) == alive
        assert (ears.state(X) is Liveness.GONE) == (left >= 0 or silence_s >= GONE_AFTER_S)
