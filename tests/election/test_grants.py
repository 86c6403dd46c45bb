"""Who grants whom, what is saved first, and who is not believed."""

from __future__ import annotations

import pytest

from peerinfer.election.ballot import COUNTER_MAX, Ballot, Standing
from peerinfer.election.effects import LeaderChanged, SaveBallot
from peerinfer.election.machine import (
    JUMP_MAX,
    LEASE_S,
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
from tests.election.steps import A, B, C, election, following, saved


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
