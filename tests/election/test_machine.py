"""The election, sentence by sentence of its design: who grants, who leads, who gives way, and what is saved first."""

from __future__ import annotations

import random

import pytest

from peerinfer.election.ballot import COUNTER_MAX, NO_BALLOT, Ballot, Standing
from peerinfer.election.effects import Effects, LeaderChanged, SaveBallot
from peerinfer.election.machine import (
    BETTER_FOR_S,
    HEARTBEAT_S,
    JITTER_S,
    JUMP_MAX,
    LEASE_S,
    ROUND_S,
    START_S,
    Election,
)
from peerinfer.election.messages import (
    Busy,
    Grant,
    LeaderHeartbeat,
    PreVote,
    Release,
    StaleBallot,
    VoteRequest,
    WouldGrant,
)
from peerinfer.net.effects import SendTo

A, B, C, D = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
READY_S = START_S + JITTER_S
WELL = Standing(3)


def election(node: str = A, promise: Ballot = NO_BALLOT, seen: tuple[str, ...] = (A, B, C)) -> Election:
    machine = Election(node, promise, random.Random(7), 0.0)
    machine.see(seen, 0.0, reach=len(seen))
    return machine


def leading(seen: tuple[str, ...] = (A, B, C), now: float = READY_S) -> tuple[Election, Ballot]:
    """A leads B and C."""
    machine = election(seen=seen)
    ballot = Ballot(1, A)
    machine.tick(now)
    for other in sorted(set(seen) - {A}):
        machine.receive(other, WouldGrant(ballot), now)
    for other in sorted(set(seen) - {A}):
        machine.receive(other, Grant(ballot, WELL), now)
    assert machine.leader == A
    return machine, ballot


def following() -> Election:
    """A obeys B under its ballot 5."""
    machine = election()
    machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), 0.0)
    assert (machine.leader, machine.ballot) == (B, Ballot(5, B))
    return machine


def sent(effects: Effects) -> list[tuple[str, object]]:
    return [(effect.node, effect.message) for effect in effects if isinstance(effect, SendTo)]


def saved(effects: Effects) -> list[Ballot]:
    return [effect.ballot for effect in effects if isinstance(effect, SaveBallot)]


# Granting


def test_a_promise_is_saved_before_the_reply_tells_of_it() -> None:
    effects = election().receive(B, VoteRequest(Ballot(1, B)), 0.0)
    assert effects == (SaveBallot(Ballot(1, B)), SendTo(B, Grant(Ballot(1, B), Standing(3))))


def test_a_first_heartbeat_is_granted_as_a_vote_is() -> None:
    effects = election().receive(B, LeaderHeartbeat(Ballot(4, B), 2), 0.0)
    ballot = Ballot(4, B)
    assert effects == (SaveBallot(ballot), SendTo(B, Grant(ballot, Standing(3))), LeaderChanged(B, ballot))


@pytest.mark.parametrize("ballot", [Ballot(5, B), Ballot(4, C), Ballot(5, A)])
def test_a_ballot_that_is_not_above_the_promise_is_stale(ballot: Ballot) -> None:
    machine = election("c" * 31 + "0", promise=Ballot(5, B))
    effects = machine.receive(ballot.node, VoteRequest(ballot), 100.0)
    assert effects == (SendTo(ballot.node, StaleBallot(Ballot(5, B))),)
    assert machine.granted is None


def test_a_live_lease_on_another_leader_makes_busy() -> None:
    machine = following()
    for question in (PreVote(Ballot(9, C)), VoteRequest(Ballot(9, C)), LeaderHeartbeat(Ballot(9, C), 9)):
        assert machine.receive(C, question, LEASE_S / 2) == (SendTo(C, Busy(Ballot(5, B))),)
    assert machine.leader == B


def test_once_the_lease_is_out_a_higher_ballot_is_granted() -> None:
    machine = following()
    effects = machine.receive(C, VoteRequest(Ballot(6, C)), LEASE_S)
    assert LeaderChanged(None, None) in effects
    assert saved(effects) == [Ballot(6, C)]
    assert machine.leader is None


def test_a_leader_may_raise_its_ballot_within_its_lease() -> None:
    machine = following()
    effects = machine.receive(B, LeaderHeartbeat(Ballot(8, B), 2), 1.0)
    assert saved(effects) == [Ballot(8, B)]
    assert machine.ballot == Ballot(8, B)


def test_a_pre_vote_changes_nothing() -> None:
    machine = election()
    assert machine.receive(B, PreVote(Ballot(9, B)), 0.0) == (SendTo(B, WouldGrant(Ballot(9, B))),)
    assert machine.granted is None
    assert machine.receive(C, PreVote(Ballot(8, C)), 0.0) == (SendTo(C, WouldGrant(Ballot(8, C))),)


def test_after_a_restart_the_promised_ballot_is_not_obeyed_again() -> None:
    machine = election(promise=Ballot(5, B))
    assert machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), 0.0) == (SendTo(B, StaleBallot(Ballot(5, B))),)
    assert machine.granted is None


@pytest.mark.parametrize(
    "message",
    [LeaderHeartbeat(Ballot(7, C), 3), PreVote(Ballot(7, C)), VoteRequest(Ballot(7, C)), Release(Ballot(7, C)), "?"],
)
def test_nobody_speaks_for_another(message: object) -> None:
    machine = election()
    assert machine.receive(B, message, 0.0) == ()
    assert machine.granted is None


def test_own_words_that_come_back_change_nothing() -> None:
    machine = election()
    for message in (LeaderHeartbeat(Ballot(7, A), 3), PreVote(Ballot(7, A)), VoteRequest(Ballot(7, A))):
        assert machine.receive(A, message, 0.0) == ()


def test_an_absurd_counter_is_not_followed() -> None:
    machine = election()
    high = JUMP_MAX + 1
    assert machine.receive(B, LeaderHeartbeat(Ballot(high, B), 3), 0.0) == ()
    assert machine.receive(B, StaleBallot(Ballot(high, B)), 0.0) == ()
    assert machine.receive(B, LeaderHeartbeat(Ballot(high - 1, B), 3), 0.0) != ()


@pytest.mark.parametrize("counter", [-1, COUNTER_MAX + 1])
def test_a_ballot_out_of_range_cannot_be_built(counter: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Ballot(counter, A)


# Candidates


def test_a_fresh_node_listens_first_then_asks_whether_it_would_win() -> None:
    machine = election()
    assert machine.tick(START_S - 0.01) == ()
    assert sent(machine.tick(READY_S)) == [(B, PreVote(Ballot(1, A))), (C, PreVote(Ballot(1, A)))]


def test_alone_a_node_leads_at_once() -> None:
    machine = election(seen=(A,))
    effects = machine.tick(READY_S)
    assert effects == (SaveBallot(Ballot(1, A)), LeaderChanged(A, Ballot(1, A)))


def test_its_own_ballot_is_saved_before_votes_are_asked_for() -> None:
    machine = election()
    machine.tick(READY_S)
    effects = machine.receive(B, WouldGrant(Ballot(1, A)), READY_S)
    assert effects[0] == SaveBallot(Ballot(1, A))
    assert sent(effects) == [(B, VoteRequest(Ballot(1, A))), (C, VoteRequest(Ballot(1, A)))]
    assert machine.leader is None


def test_more_than_half_of_the_visible_makes_a_leader() -> None:
    machine = election(seen=(A, B, C, D))
    machine.tick(READY_S)
    ballot = Ballot(1, A)
    assert machine.receive(B, WouldGrant(ballot), READY_S) == ()
    assert machine.receive(C, WouldGrant(ballot), READY_S) != ()
    assert machine.receive(B, Grant(ballot, WELL), READY_S) == ()
    effects = machine.receive(C, Grant(ballot, WELL), READY_S)
    assert effects[-1] == LeaderChanged(A, ballot)
    assert machine.workers(READY_S) == {A, B, C}


def test_votes_of_another_ballot_or_kind_do_not_count() -> None:
    machine = election()
    machine.tick(READY_S)
    assert machine.receive(B, Grant(Ballot(1, A), WELL), READY_S) == ()
    assert machine.receive(B, WouldGrant(Ballot(2, A)), READY_S) == ()
    assert machine.receive("f" * 32, WouldGrant(Ballot(1, A)), READY_S) == (), "not one that it sees"
    assert machine.leader is None


def test_nobody_left_to_ask_wins_the_round() -> None:
    machine = election()
    machine.tick(READY_S)
    effects = machine.see((A,), READY_S + 0.1, reach=1)
    assert effects[-1] == LeaderChanged(A, Ballot(1, A))
    assert machine.see((A,), READY_S + 0.2, reach=1) == ()


def test_a_round_without_a_majority_ends_and_frees_who_granted() -> None:
    machine = election(seen=(A, B, C, D))
    machine.tick(READY_S)
    assert machine.tick(READY_S + ROUND_S) == (), "a pre-vote bound nobody"
    later = READY_S + ROUND_S + JITTER_S
    machine.tick(later)
    for other in (B, C):
        machine.receive(other, WouldGrant(Ballot(1, A)), later)
    assert sent(machine.tick(later + ROUND_S)) == [(node, Release(Ballot(1, A))) for node in (B, C, D)]
    again = machine.tick(later + ROUND_S + JITTER_S)
    assert (B, PreVote(Ballot(2, A))) in sent(again), "a ballot is used once"


def test_a_candidate_that_hears_a_leader_stands_no_more() -> None:
    machine = following()
    machine.tick(LEASE_S)
    machine.tick(LEASE_S + JITTER_S)
    machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), LEASE_S + JITTER_S)
    assert machine.receive(C, WouldGrant(Ballot(6, A)), LEASE_S + JITTER_S) == ()
    assert (machine.leader, machine.granted) == (B, Ballot(5, B))


def test_a_stale_answer_raises_the_candidate_s_ballot() -> None:
    machine = election()
    machine.tick(READY_S)
    assert machine.receive(B, StaleBallot(Ballot(0, C)), READY_S) == ()
    effects = machine.receive(B, StaleBallot(Ballot(6, C)), READY_S)
    assert (B, PreVote(Ballot(7, A))) in sent(effects)


def test_a_stale_answer_to_a_vote_frees_the_others_first() -> None:
    machine = election()
    machine.tick(READY_S)
    machine.receive(B, WouldGrant(Ballot(1, A)), READY_S)
    effects = machine.receive(C, StaleBallot(Ballot(6, C)), READY_S)
    assert sent(effects) == [(B, Release(Ballot(1, A))), (C, Release(Ballot(1, A)))]
    assert (B, PreVote(Ballot(7, A))) in sent(machine.tick(READY_S + JITTER_S))


def test_busy_raises_no_ballot() -> None:
    machine = election()
    machine.tick(READY_S)
    assert machine.receive(B, Busy(Ballot(6, C)), READY_S) == ()
    leader, ballot = leading()
    assert leader.receive(B, Busy(Ballot(6, C)), READY_S) == ()
    assert leader.ballot == ballot


def test_a_node_on_battery_lets_those_on_mains_stand_first() -> None:
    machine = election()
    machine.see((A, B), 0.0, reach=2, mains=False)
    machine.receive(B, LeaderHeartbeat(Ballot(5, B), 1), 0.0)
    machine.tick(LEASE_S)
    assert machine.tick(LEASE_S + JITTER_S / 2 - 0.01) == ()
    assert sent(machine.tick(LEASE_S + JITTER_S)) == [(B, PreVote(Ballot(6, A)))]


# Leaders


def test_a_leader_s_heartbeats_tell_how_many_obey() -> None:
    machine, ballot = leading()
    assert machine.tick(READY_S + HEARTBEAT_S / 2) == ()
    effects = machine.tick(READY_S + HEARTBEAT_S)
    assert sent(effects) == [(B, LeaderHeartbeat(ballot, 3)), (C, LeaderHeartbeat(ballot, 3))]


def test_a_worker_that_grants_no_more_is_none() -> None:
    machine, ballot = leading()
    machine.receive(B, Grant(ballot, WELL), READY_S + 2.0)
    assert machine.workers(READY_S + LEASE_S) == {A, B}
    assert election().workers(0.0) == frozenset()


def test_a_leader_grants_nobody() -> None:
    machine, ballot = leading()
    for question in (PreVote(Ballot(9, B)), VoteRequest(Ballot(9, B))):
        assert machine.receive(B, question, READY_S + 100) == (SendTo(B, Busy(ballot)),)


def test_a_free_node_that_promised_more_raises_the_leader_s_ballot() -> None:
    machine, ballot = leading()
    assert machine.receive(C, StaleBallot(Ballot(0, C)), READY_S) == ()
    effects = machine.receive(C, StaleBallot(ballot), READY_S)
    assert effects[0] == SaveBallot(Ballot(2, A))
    assert sent(effects) == [(B, LeaderHeartbeat(Ballot(2, A), 3)), (C, LeaderHeartbeat(Ballot(2, A), 3))]
    assert effects[-1] == LeaderChanged(A, Ballot(2, A))


def test_of_two_leaders_the_one_with_fewer_workers_gives_way_and_frees_its_own() -> None:
    machine, ballot = leading()
    assert machine.receive(D, LeaderHeartbeat(Ballot(9, D), 2), READY_S) == ()
    effects = machine.receive(D, LeaderHeartbeat(Ballot(9, D), 4), READY_S)
    assert sent(effects)[:2] == [(B, Release(ballot, D)), (C, Release(ballot, D))]
    assert (machine.leader, machine.ballot) == (D, Ballot(9, D))


def test_of_two_leaders_with_equally_many_the_higher_ballot_stays() -> None:
    machine, _ = leading()
    assert machine.receive(D, LeaderHeartbeat(Ballot(1, "0" * 32), 3), READY_S) == ()
    assert machine.receive("0" * 32, LeaderHeartbeat(Ballot(1, "0" * 32), 3), READY_S) == ()
    assert machine.leader == A


def test_a_leader_that_gives_way_to_a_lower_ballot_than_its_own_says_so() -> None:
    machine, ballot = leading()
    low = Ballot(0, D)
    effects = machine.receive(D, LeaderHeartbeat(low, 9), READY_S)
    assert sent(effects)[-1] == (D, StaleBallot(ballot))
    assert machine.leader is None


def test_release_frees_at_once_and_names_the_best_of_its_workers() -> None:
    machine, ballot = leading()
    machine.receive(B, Grant(ballot, Standing(3, mains=False)), READY_S)
    effects = machine.release(READY_S)
    assert effects == (
        SendTo(B, Release(ballot, C)),
        SendTo(C, Release(ballot, C)),
        LeaderChanged(None, None),
    )
    assert machine.release(READY_S) == ()


def test_a_lone_leader_s_release_names_nobody() -> None:
    machine = election(seen=(A,))
    machine.tick(READY_S)
    assert machine.release(READY_S) == (LeaderChanged(None, None),)


def test_the_named_successor_stands_at_once_and_the_others_wait() -> None:
    heir, other = following(), following()
    assert sent(heir.receive(B, Release(Ballot(5, B), A), 1.0))[0] == (B, PreVote(Ballot(6, A)))
    assert other.receive(B, Release(Ballot(5, B), C), 1.0) == (LeaderChanged(None, None),)
    assert other.tick(1.0 + ROUND_S / 2) == ()


def test_a_release_is_taken_from_the_promised_leader_only() -> None:
    machine = following()
    for sender, ballot in ((C, Ballot(5, B)), (B, Ballot(4, B)), (C, Ballot(9, C))):
        assert machine.receive(sender, Release(ballot, C), 1.0) == ()
    assert machine.leader == B


def test_a_late_heartbeat_of_a_released_ballot_binds_nobody() -> None:
    machine = following()
    machine.receive(B, Release(Ballot(5, B), ""), 1.0)
    assert machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), 1.1) == ()
    assert machine.leader is None
    machine.receive(B, Release(Ballot(5, B), ""), 1.2)
    assert machine.leader is None, "a second release changes nothing"


def test_a_better_node_takes_over_after_a_minute_and_not_before() -> None:
    machine, ballot = leading()
    machine.see((A, B, C), READY_S, reach=3, mains=False)
    effects: Effects = ()
    for step in range(int(BETTER_FOR_S / HEARTBEAT_S) + 1):
        now = READY_S + step * HEARTBEAT_S
        effects = machine.tick(now)
        assert machine.leader == (A if now - READY_S < BETTER_FOR_S else None)
        machine.receive(B, Grant(ballot, Standing(3, mains=True)), now)
    assert sent(effects)[0] == (B, Release(ballot, B))


def test_a_node_that_was_better_for_a_moment_takes_nothing_over() -> None:
    machine, ballot = leading()
    machine.see((A, B, C), READY_S, reach=3, mains=False)
    for step in range(2 * int(BETTER_FOR_S / HEARTBEAT_S)):
        now = READY_S + step * HEARTBEAT_S
        machine.receive(B, Grant(ballot, Standing(3, mains=step % 100 != 99)), now)
        machine.tick(now)
    assert machine.leader == A


# Followers


def test_a_heartbeat_renews_the_lease_and_is_no_news() -> None:
    machine = following()
    assert machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), 2.0) == (SendTo(B, Grant(Ballot(5, B), Standing(3))),)
    assert machine.tick(2.0 + LEASE_S - 0.01) == ()
    assert machine.tick(2.0 + LEASE_S) == (LeaderChanged(None, None),)
    assert machine.granted == Ballot(5, B), "the promise stays"


def test_the_leader_is_followed_again_under_the_same_ballot_if_it_comes_back() -> None:
    machine = following()
    machine.tick(LEASE_S)
    effects = machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), LEASE_S)
    assert saved(effects) == []
    assert effects[-1] == LeaderChanged(B, Ballot(5, B))


# Sleep


def test_a_leader_that_slept_leads_no_more_and_listens_first() -> None:
    machine, ballot = leading()
    effects = machine.wake(500.0)
    assert sent(effects) == [(node, Release(ballot, "")) for node in (B, C)], "it knows of no worker any more"
    assert machine.leader is None
    assert machine.tick(500.0 + LEASE_S - 0.01) == ()


def test_a_follower_that_slept_believes_in_nobody() -> None:
    machine = following()
    assert machine.wake(500.0) == (LeaderChanged(None, None),)
    assert machine.tick(500.0 + LEASE_S - 0.01) == ()
    assert sent(machine.tick(500.0 + LEASE_S + JITTER_S)) != []
    assert machine.wake(600.0) == ()
