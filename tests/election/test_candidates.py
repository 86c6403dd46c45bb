"""Who stands, who wins, and what a round without a majority leaves behind."""

from __future__ import annotations

from peerinfer.election.ballot import Ballot
from peerinfer.election.effects import LeaderChanged, SaveBallot
from peerinfer.election.machine import (
    JITTER_S,
    LEASE_S,
    ROUND_S,
    START_S,
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
from peerinfer.election.poll import MUTE_AFTER
from tests.election.steps import READY_S, WELL, A, B, C, D, election, following, leading, sent


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
    machine.receive(D, Busy(Ballot(1, C)), later)
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


def test_a_node_that_never_answers_is_done_without() -> None:
    machine = election(seen=(A, B))
    now = READY_S
    for _ in range(MUTE_AFTER):
        machine.tick(now)
        machine.tick(now + ROUND_S)
        now += ROUND_S + JITTER_S
        assert machine.leader is None
    assert machine.tick(now)[-1] == LeaderChanged(A, Ballot(1, A))


def test_a_node_that_answers_once_more_counts_again() -> None:
    machine = election(seen=(A, B, C, D))
    now = READY_S
    for answers in (False, True, False):
        machine.tick(now)
        if answers:
            for other in (B, C, D):
                machine.receive(other, Busy(Ballot(1, B)), now)
        machine.tick(now + ROUND_S)
        now += ROUND_S + JITTER_S
    machine.tick(now)
    assert machine.leader is None


def test_a_heir_asks_again_whom_the_release_had_not_reached() -> None:
    heir = following()
    heir.receive(B, Release(Ballot(5, B), A), 1.0)
    assert heir.receive(C, Busy(Ballot(5, B)), 1.01) == ()
    assert sent(heir.tick(1.1)) == [(B, PreVote(Ballot(6, A))), (C, PreVote(Ballot(6, A)))]
    assert heir.tick(1.2) == (), "once for each time that it hears so"
    assert heir.receive(C, Busy(Ballot(4, B)), 1.2) == ()
    assert heir.tick(1.3) == ()


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


def test_rounds_that_end_early_say_nothing_of_who_is_slow() -> None:
    machine = election(seen=(A, B, C, D))
    machine.tick(READY_S)
    for counter in (100, 200):
        machine.receive(B, StaleBallot(Ballot(counter, B)), READY_S)
    machine.receive(B, WouldGrant(Ballot(201, A)), READY_S)
    assert machine.leader is None, "two of four are no majority"
    assert machine.granted is None
