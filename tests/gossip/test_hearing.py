"""Who is here: by heartbeats that came here, by neighbours' ears, in listened time, until a farewell."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from peerinfer.gossip.hearing import (
    ASK_EVERY_S,
    ASK_GONE_EVERY_S,
    ASK_NEIGHBOURS,
    ASK_NODES_MAX,
    Hearing,
)
from peerinfer.gossip.liveness import GONE_AFTER_S, UNREACHABLE_AFTER_S, Liveness
from peerinfer.gossip.messages import AskHeard, Heard
from peerinfer.identity.roster import MEMBERS_MAX
from tests.gossip.ears import ME, TICK_S, B, C, Ears, X, question


def test_a_member_goes_from_alive_to_gone_by_its_silence() -> None:
    ears = Ears(X)
    ears.hear(X)
    assert ears.state(X) is Liveness.ALIVE
    ears.listen(UNREACHABLE_AFTER_S - TICK_S)
    assert ears.state(X) is Liveness.ALIVE
    ears.listen(TICK_S)
    assert ears.state(X) is Liveness.UNREACHABLE
    ears.listen(GONE_AFTER_S - UNREACHABLE_AFTER_S)
    assert ears.state(X) is Liveness.GONE
    ears.hear(X)
    assert ears.state(X) is Liveness.ALIVE


def test_a_member_that_was_never_heard_has_time_until_it_is_gone() -> None:
    ears = Ears(X)
    assert ears.state(X) is Liveness.UNREACHABLE
    assert not ears.hearing.was_heard(X)
    ears.listen(GONE_AFTER_S)
    assert ears.state(X) is Liveness.GONE
    ears.hearing.see(frozenset({ME, X, B}), ears.now)
    assert ears.state(B) is Liveness.UNREACHABLE


def test_this_node_is_alive_and_a_stranger_gone() -> None:
    ears = Ears(X)
    ears.hear("stranger")
    assert ears.state(ME) is Liveness.ALIVE
    assert ears.hearing.was_heard(ME)
    assert ears.state("stranger") is Liveness.GONE
    assert not ears.hearing.was_heard("stranger")


def test_a_removed_member_is_forgotten() -> None:
    ears = Ears(X)
    ears.hear(X)
    ears.hearing.see(frozenset({ME}), ears.now)
    ears.hear(X)
    assert ears.state(X) is Liveness.GONE
    assert ears.hearing.direct() == frozenset()


def test_before_the_first_roster_links_are_heard_but_not_without_bound() -> None:
    hearing = Hearing(ME, random.Random(1), 0.0)
    for number in range(MEMBERS_MAX + 5):
        hearing.heard(str(number), 1, 0.1)
    hearing.heard(ME, 1, 0.1)
    assert len(hearing.direct()) == MEMBERS_MAX
    assert hearing.liveness("0", 0.2) is Liveness.ALIVE


def test_direct_are_those_heard_lately_over_their_own_link() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    ears.listen(UNREACHABLE_AFTER_S, hearing=[B])
    assert ears.hearing.direct() == {B}
    assert ears.hearing.was_heard(X)


def test_what_was_heard_a_while_ago_counts_from_then() -> None:
    ears = Ears(X)
    ears.hear(X)
    ears.listen(1.0)
    ears.hearing.heard(X, 1, ears.now - 0.5)
    ears.listen(1.25)
    assert ears.state(X) is Liveness.ALIVE
    ears.listen(TICK_S)
    assert ears.state(X) is Liveness.UNREACHABLE


# Neighbours


def test_a_silent_member_is_asked_about_at_up_to_three_who_are_heard() -> None:
    members = [f"n{number}" for number in range(6)]
    ears = Ears(X, *members)
    ears.hear(X, *members)
    assert ears.listen(1.0, hearing=members) == []
    asked = ears.listen(TICK_S, hearing=members)
    assert {sent.node for sent in asked} <= set(members)
    assert len({sent.node for sent in asked}) == len(asked) == ASK_NEIGHBOURS
    assert all(question(sent).nodes == (X,) for sent in asked)


def test_it_is_asked_again_every_half_second_and_seldom_once_gone() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    asked = ears.listen(GONE_AFTER_S, hearing=[B])
    assert len(asked) == pytest.approx((GONE_AFTER_S - 1.0) / ASK_EVERY_S, abs=1)
    ears.listen(ASK_GONE_EVERY_S, hearing=[B])
    assert len(ears.listen(4 * ASK_GONE_EVERY_S, hearing=[B])) == 4


def test_nobody_is_asked_when_nobody_is_heard() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    assert ears.listen(5.0) == []


def test_one_question_names_a_bounded_number() -> None:
    silent = [f"n{number}" for number in range(ASK_NODES_MAX + 6)]
    ears = Ears(B, *silent)
    ears.hear(B, *silent)
    asked = ears.listen(1.0 + 2 * TICK_S, hearing=[B])
    assert [len(question(sent).nodes) for sent in asked] == [ASK_NODES_MAX, 6]


def test_a_neighbour_that_hears_it_keeps_it_alive() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    for _ in range(100):
        ears.listen(TICK_S, hearing=[B], answer=lambda sent: Heard(question(sent).number, ((X, 1, 300_000),)))
        assert ears.state(X) is Liveness.ALIVE
    assert ears.hearing.direct() == {B}


def test_an_answer_counts_from_the_question_less_the_age() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    asked = ears.listen(1.0 + TICK_S, hearing=[B])
    ears.listen(0.75, hearing=[B])
    assert ears.state(X) is Liveness.UNREACHABLE
    ears.hearing.told(B, Heard(question(asked[0]).number, ((X, 1, 250_000),)))
    assert ears.state(X) is Liveness.ALIVE
    ears.listen(1.0, hearing=[B])  # 1.75 s after the question, and 0.25 s for the age
    assert ears.state(X) is Liveness.UNREACHABLE


def test_an_answer_that_says_less_than_is_known_changes_nothing() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    ears.listen(3.0, hearing=[B], answer=lambda sent: Heard(question(sent).number, ((X, 1, 5_000_000),)))
    assert ears.state(X) is Liveness.UNREACHABLE


@pytest.mark.parametrize(
    "heard",
    [
        lambda number: Heard(number + 1, ((X, 1, 0),)),  # to another question
        lambda number: Heard(number, ((X, 0, 0),)),  # a former life
        lambda number: Heard(number, ((X, 1, -5_000_000),)),  # from the future
        lambda number: Heard(number, ((C, 1, 0),)),  # not asked about
        lambda number: Heard(number, (("stranger", 1, 0),)),
        lambda number: Heard(number, ()),
    ],
)
def test_an_answer_to_something_else_changes_nothing(heard: Callable[[int], Heard]) -> None:
    ears = Ears(X, B, C)
    ears.hear(X, B)
    ears.listen(3.0, hearing=[B], answer=lambda sent: heard(question(sent).number))
    assert ears.state(X) is Liveness.UNREACHABLE
    assert not ears.hearing.was_heard(C)


def test_an_answer_of_one_who_was_not_asked_changes_nothing() -> None:
    ears = Ears(X, B, C)
    ears.hear(X, B)
    asked = ears.listen(1.75, hearing=[B])
    ears.hearing.told(C, Heard(question(asked[-1]).number, ((X, 1, 0),)))
    ears.listen(TICK_S)
    assert ears.state(X) is Liveness.UNREACHABLE


def test_an_answer_after_two_seconds_is_to_a_forgotten_question() -> None:
    ears = Ears(X, B)
    ears.hear(X, B)
    asked = ears.listen(1.0 + TICK_S, hearing=[B])
    ears.listen(3.0, hearing=[B])
    ears.hearing.told(B, Heard(question(asked[0]).number, ((X, 1, 0),)))
    assert ears.state(X) is Liveness.UNREACHABLE


def test_first_sight_through_a_neighbour_is_not_life() -> None:
    ears = Ears(X, B)
    ears.hear(B)
    assert ears.listen(5.0, hearing=[B]) == []
    assert not ears.hearing.was_heard(X)
    assert ears.state(X) is Liveness.UNREACHABLE


def test_a_neighbour_tells_its_own_ages_and_nothing_else() -> None:
    ears = Ears(X, B, C)
    ears.hear(X, incarnation=4)
    ears.hear(B)
    ears.listen(0.5, hearing=[B])
    ears.hearing.left(B, 1, ears.now)
    answer = ears.hearing.answer(AskHeard((X, B, C, "stranger", ME), 7), ears.now)
    assert answer == Heard(7, ((X, 4, 500_000),))


def test_a_neighbour_does_not_tell_hearsay_nor_what_is_long_ago() -> None:
    ears = Ears(X, B)
    ears.hear(X)
    ears.listen(GONE_AFTER_S, hearing=[B], answer=lambda sent: Heard(question(sent).number, ((X, 1, 0),)))
    assert ears.state(X) is Liveness.ALIVE
    assert ears.hearing.answer(AskHeard((X,), 1), ears.now) == Heard(1, ())
