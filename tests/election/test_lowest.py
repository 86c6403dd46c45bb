"""The lowest live node leads: who obeys whom, and that no ballot is minted twice."""

from __future__ import annotations

from peerinfer.election.ballot import Ballot
from peerinfer.election.effects import LeaderChanged, SendTo
from peerinfer.election.lowest import COUNTER_MAX, HEARTBEAT_S, LowestLeads
from peerinfer.election.messages import LeaderHeartbeat, StaleBallot
from peerinfer.net.messages import decode, encode

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


def changes(effects: tuple[object, ...]) -> list[str | None]:
    return [effect.leader for effect in effects if isinstance(effect, LeaderChanged)]


def test_alone_a_node_leads_at_once() -> None:
    machine = LowestLeads(B, 1)
    effects = machine.tick(0.0)
    assert changes(effects) == [B]
    assert machine.ballot is not None
    assert machine.ballot.node == B


def test_followers_hear_of_a_ballot_before_anything_is_done_with_it() -> None:
    machine = LowestLeads(A, 1)
    effects = machine.see([A, B], 0.0)
    assert [type(effect) for effect in effects] == [SendTo, LeaderChanged]


def test_a_leader_s_heartbeat_goes_to_everybody_in_time() -> None:
    machine = LowestLeads(A, 1)
    machine.see([A, B, C], 0.0)
    assert machine.ballot is not None
    assert machine.tick(HEARTBEAT_S / 2) == ()
    beat = LeaderHeartbeat(machine.ballot)
    assert machine.tick(HEARTBEAT_S) == (SendTo(B, beat), SendTo(C, beat))


def test_a_lower_node_in_sight_ends_leadership_before_it_is_heard() -> None:
    machine = LowestLeads(B, 1)
    machine.tick(0.0)
    assert changes(machine.see([A, B], 1.0)) == [None]
    assert (machine.leader, machine.ballot) == (None, None)
    assert machine.tick(2.0) == ()


def test_a_follower_obeys_the_lowest_node_in_sight_and_nobody_else() -> None:
    machine = LowestLeads(C, 1)
    machine.see([A, B, C], 0.0)
    assert machine.receive(B, LeaderHeartbeat(Ballot(9, B)), 0.0) == ()
    assert machine.receive(B, LeaderHeartbeat(Ballot(9, A)), 0.0) == (), "only its own node tells of a ballot"
    assert changes(machine.receive(A, LeaderHeartbeat(Ballot(5, A)), 0.0)) == [A]
    assert machine.receive(A, LeaderHeartbeat(Ballot(5, A)), 0.1) == ()
    assert (machine.leader, machine.ballot) == (A, Ballot(5, A))


def test_a_ballot_below_the_promise_is_refused_and_a_higher_one_follows() -> None:
    follower, leader = LowestLeads(C, 1), LowestLeads(A, 1)
    follower.see([B, C], 0.0)
    follower.receive(B, LeaderHeartbeat(Ballot(2**50, B)), 0.0)
    leader.see([A, C], 0.0)
    assert leader.ballot is not None
    follower.see([A, B, C], 1.0)
    (refusal,) = follower.receive(A, LeaderHeartbeat(leader.ballot), 1.0)
    assert refusal == SendTo(A, StaleBallot(Ballot(2**50, B)))
    assert follower.leader is None
    effects = leader.receive(C, StaleBallot(Ballot(2**50, B)), 1.0)
    assert changes(effects) == [A]
    assert leader.ballot > Ballot(2**50, B)
    assert changes(follower.receive(A, LeaderHeartbeat(leader.ballot), 1.0)) == [A]


def test_what_is_no_promise_above_changes_no_ballot() -> None:
    machine = LowestLeads(A, 1)
    machine.see([A, B], 0.0)
    ballot = machine.ballot
    for promise in (Ballot(0, B), Ballot(COUNTER_MAX + 1, B)):
        assert machine.receive(B, StaleBallot(promise), 0.0) == ()
    assert machine.receive(B, "something else", 0.0) == ()
    assert machine.ballot == ballot


def test_an_absurd_ballot_is_not_followed() -> None:
    machine = LowestLeads(B, 1)
    machine.see([A, B], 0.0)
    assert machine.receive(A, LeaderHeartbeat(Ballot(COUNTER_MAX + 1, A)), 0.0) == ()
    assert machine.leader is None


def test_each_change_of_leader_has_a_higher_ballot() -> None:
    machine = LowestLeads(B, 1)
    machine.tick(0.0)
    first = machine.ballot
    machine.see([A, B], 1.0)
    machine.receive(A, LeaderHeartbeat(Ballot(2**40, A)), 1.0)
    machine.see([B], 2.0)
    assert first is not None
    assert machine.ballot is not None
    assert machine.ballot > Ballot(2**40, A) > first


def test_two_lives_of_a_node_never_mint_the_same_ballot() -> None:
    minted: set[Ballot | None] = set()
    for incarnation in (1, 2, 3):
        machine = LowestLeads(A, incarnation)
        for promise in (0, 2**20, 2**20 + 1, 2**21, 3 * 2**20 + 2):
            machine.see([A, B], 0.0)
            machine.receive(B, StaleBallot(Ballot(promise, B)), 0.0)
            minted.add(machine.ballot)
        lives = {ballot.counter % 2**20 for ballot in minted if ballot}
        assert len(lives) == incarnation


def test_the_bytes_on_the_wire_stay_as_they_are() -> None:
    messages = {
        LeaderHeartbeat(Ballot(7, A)): "921492 07d920" + A.encode().hex(),
        StaleBallot(Ballot(2**21, B)): "921c92 ce00200000 d920" + B.encode().hex(),
    }
    for message, golden in messages.items():
        assert encode(message) == bytes.fromhex(golden)
        assert decode(bytes.fromhex(golden)) == message
