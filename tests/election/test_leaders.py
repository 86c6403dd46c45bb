"""Who leads, gives way, hands over; who follows; and what sleep does."""

from __future__ import annotations

import pytest

from peerinfer.election.ballot import Ballot, Standing
from peerinfer.election.effects import Effects, LeaderChanged, SaveBallot
from peerinfer.election.machine import (
    HEARTBEAT_S,
    JITTER_S,
    LEASE_S,
    ROUND_S,
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
from peerinfer.election.reign import BETTER_FOR_S
from peerinfer.net.effects import SendTo
from tests.election.steps import READY_S, WELL, A, B, C, D, election, following, leading, saved, sent


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
    ), "the heir hears it last, so that the others are free when it asks them"
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
    assert sent(effects) == [(C, Release(ballot, B)), (B, Release(ballot, B))]


def test_a_node_that_was_better_for_a_moment_takes_nothing_over() -> None:
    machine, ballot = leading()
    machine.see((A, B, C), READY_S, reach=3, mains=False)
    for step in range(2 * int(BETTER_FOR_S / HEARTBEAT_S)):
        now = READY_S + step * HEARTBEAT_S
        machine.receive(B, Grant(ballot, Standing(3, mains=step % 100 != 99)), now)
        machine.tick(now)
    assert machine.leader == A


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


def test_a_candidate_that_stops_frees_who_granted_and_wins_nothing_later() -> None:
    machine = election()
    machine.tick(READY_S)
    machine.receive(B, WouldGrant(Ballot(1, A)), READY_S)
    assert sent(machine.release(READY_S)) == [(B, Release(Ballot(1, A))), (C, Release(Ballot(1, A)))]
    assert machine.receive(B, Grant(Ballot(1, A), WELL), READY_S) == ()
    assert machine.leader is None


@pytest.mark.parametrize("workers", [-1, 0, 2**40])
def test_nobody_leads_more_than_a_mesh_has(workers: int) -> None:
    with pytest.raises(ValueError, match="impossible number"):
        LeaderHeartbeat(Ballot(1, A), workers)
