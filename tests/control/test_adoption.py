"""What a leader takes over from those before it, what it misses, and what it lets drain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control import placements
from peerinfer.control.intents import IntentBook
from peerinfer.control.leader import SILENCE_MAX_S, Leader
from peerinfer.control.messages import (
    DropStage,
    HeldPart,
    StageReport,
    StagesHeld,
)
from peerinfer.control.planning import Wishes
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.election.ballot import Ballot
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldStage, Snapshot
from peerinfer.net.frames import Epoch
from tests.control.cluster import MESH, MODEL, FakeSigner
from tests.control.led import (
    BALLOT,
    LOAD,
    START_S,
    TOLD,
    A,
    B,
    commands,
    instance,
    leading,
    loaded,
    loaded_instance,
    members,
    replies,
)


def test_what_is_wanted_waits_for_a_silent_node_that_may_hold_it() -> None:
    leader = leading(A)
    loaded(leader)
    intents = leader._intents.statements
    next_one = Leader(A, IntentBook(A, MESH, FakeSigner(A), intents))
    next_one.lead(BALLOT, 0.0)
    away = (*members(A), *members(B, state=Liveness.UNREACHABLE))
    next_one.see(away, frozenset({A}), 0.0)
    next_one.receive(A, StagesHeld(BALLOT, ()), 0.0)
    assert commands(next_one.tick(START_S)) == []
    assert [reply.code for reply in replies(next_one.receive(A, LOAD, START_S))] == ["no_leader"]
    assert len(commands(next_one.tick(SILENCE_MAX_S))) == 1


def test_an_instance_whose_intent_nobody_knows_goes_after_a_while() -> None:
    leader = leading(A, B)
    part = HeldPart(instance(), 0, "ready", "", 1.0)
    leader.receive(A, StagesHeld(BALLOT, (part,)), START_S)
    leader.receive(B, StagesHeld(BALLOT, (replace(part, stage=1),)), START_S)
    assert [one.state for one in leader.instances] == [InstanceState.READY]
    assert commands(leader.tick(START_S + 5)) == []
    assert {type(one) for one in commands(leader.tick(START_S + 11))} == {DropStage}
    assert leader.instances == ()


def test_an_adopted_instance_without_intent_that_lost_a_stage_is_dropped() -> None:
    leader = leading(A, B)
    leader.receive(A, StagesHeld(BALLOT, (HeldPart(instance(), 0, "ready", "", 1.0),)), START_S)
    leader.tick(START_S + 0.1)
    assert leader.instances == (), "B told that it holds nothing"


def test_a_worker_s_word_counts_for_its_own_stages_only() -> None:
    leader = leading(A, B)
    for part in (HeldPart(instance(), 1, "ready"), HeldPart(instance(), 2, "ready")):
        leader.receive(A, StagesHeld(BALLOT, (part,)), START_S)
        assert leader.instances == ()
    leader.receive(A, StagesHeld(Ballot(3, A), (HeldPart(instance(), 0, "ready"),)), START_S)
    assert leader.instances == (), "it was told to another leader"
    placed = loaded(leading(A))
    other = leading(A)
    assert other.receive(A, StageReport(placed.id, placed.epoch, 0, "ready"), START_S) == ()


def test_only_so_many_instances_are_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "ADOPTED_MAX", 1)
    leader = leading(A, B)
    parts = tuple(HeldPart(instance(Epoch(3, B, n)), 0, "loading") for n in (1, 2))
    leader.receive(A, StagesHeld(BALLOT, parts), START_S)
    assert len(leader.instances) == 1


def test_a_stage_that_a_worker_was_just_told_to_load_is_not_missed() -> None:
    leader = leading(A)
    effects = leader.receive(B, LOAD, START_S)
    leader.receive(A, StagesHeld(BALLOT, (), version=99), START_S)
    assert leader.instances == (loaded_instance(effects),)


def test_what_a_worker_told_before_it_heard_the_command_says_nothing_of_it() -> None:
    leader = leading(A)
    placed = loaded(leader)
    leader.receive(A, StagesHeld(BALLOT, (), version=0), START_S)
    assert [(one.id, one.epoch, one.state) for one in leader.instances] == [
        (placed.id, placed.epoch, InstanceState.READY)
    ]


def test_what_a_worker_does_not_hold_under_a_higher_ballot_is_missing() -> None:
    """The command to load it was of the ballot before, so it is not on its way any more."""
    leader = leading(A, B)
    placed = loaded(leader)
    higher = Ballot(9, A)
    leader.lead(higher, START_S + 1)
    effects = leader.receive(placed.stages[0].node, StagesHeld(higher, ()), START_S + 2)
    ready = {(one.id, one.epoch) for one in leader.instances if one.state is InstanceState.READY}
    assert (placed.id, placed.epoch) not in ready
    assert commands(effects)


def test_a_node_that_came_back_has_time_to_tell_what_it_holds() -> None:
    leader = leading(A)
    loaded(leader)
    wanted = leader.instances[0].id
    back = START_S + 100.0
    leader.see(members(A, B), frozenset({A, B}), back)
    leader.receive(B, StagesHeld(BALLOT, ()), back)
    away = "c" * 32
    stages = (StagePlace(B, "llama.cpp", 0, 15), StagePlace(away, "llama.cpp", 15, 30))
    part = HeldPart(instance(id=wanted, stages=stages), 0, "ready", "", 1.0)
    leader.see(members(A, B, away), frozenset({A, B, away}), back)
    leader.receive(B, StagesHeld(BALLOT, (part,)), back)
    leader.tick(back + 0.25)
    assert part.instance.epoch in {one.epoch for one in leader.instances}, "the third did not tell yet"
    leader.receive(away, StagesHeld(BALLOT, (replace(part, stage=1),)), back + 0.5)
    leader.tick(back + 0.5)
    states = {one.epoch: one.state for one in leader.instances}
    assert states[part.instance.epoch] in (InstanceState.READY, InstanceState.DRAINING)
    assert len(states) == 2, "the other one drains: an answer may run on it"


def test_a_stage_missed_twice_is_lost_once() -> None:
    leader = leading(A)
    loaded(leader)
    for _ in range(2):
        leader.receive(A, StagesHeld(BALLOT, (), version=99), START_S + 100)
    assert [one.state for one in leader.instances] == [InstanceState.LOADING], "it is being placed again"


def test_an_answer_that_goes_on_keeps_a_draining_instance_but_not_for_ever() -> None:
    leader = leading(A)
    placed = loaded(leader)
    effects = leader.receive(B, replace(LOAD, request_id="r2", context=32), START_S)
    fresh = loaded_instance(effects)
    leader.receive(A, StageReport(fresh.id, fresh.epoch, 0, "ready", "", 1.0), START_S)
    leader.tick(START_S)
    states = {one.epoch: one.state for one in leader.instances}
    assert states == {placed.epoch: InstanceState.DRAINING, fresh.epoch: InstanceState.READY}
    for step in range(1, 59):
        leader.see(members(A, told=busy(placed, step)), frozenset({A}), START_S + 10 * step)
        leader.tick(START_S + 10 * step)
        assert len(leader.instances) == 2
    for step in (60, 61):
        leader.see(members(A, told=busy(placed, step)), frozenset({A}), START_S + 10 * step)
        leader.tick(START_S + 10 * step)
    assert [one.epoch for one in leader.instances] == [fresh.epoch]


def busy(placed: Instance, tokens: int) -> Snapshot:
    from peerinfer.gossip.snapshot import HeldStage

    return replace(TOLD, stages=(HeldStage(placed.id, placed.epoch, 0, "ready", tokens=tokens),))


def two_halves(leader: Leader, *, gone: bool, now: float) -> HeldPart:
    """B tells of an instance whose other stage is on a third node, which the leader sees as gone or not at all."""
    away = "c" * 32
    stages = (StagePlace(B, "llama.cpp", 0, 15), StagePlace(away, "llama.cpp", 15, 30))
    part = HeldPart(instance(id=leader.instances[0].id, stages=stages), 0, "ready", "", 1.0)
    seen = (*members(A, B), *(members(away, state=Liveness.GONE) if gone else ()))
    leader.see(seen, frozenset({A, B}), now)
    leader.receive(B, StagesHeld(BALLOT, (part,)), now)
    leader.see(seen, frozenset({A, B}), now + 0.25)
    leader.tick(now + 0.25)
    return part


def test_a_node_that_is_gone_may_come_with_its_neighbour() -> None:
    leader = leading(A)
    loaded(leader)
    part = two_halves(leader, gone=True, now=START_S + 50)
    assert part.instance.epoch in {one.epoch for one in leader.instances}
    late = START_S + 50 + SILENCE_MAX_S
    seen = (*members(A, B), *members("c" * 32, state=Liveness.GONE))
    leader.see(seen, frozenset({A, B}), late)
    leader.tick(late)
    assert part.instance.epoch not in {one.epoch for one in leader.instances}


def test_a_node_that_is_no_member_does_not_come() -> None:
    leader = leading(A)
    loaded(leader)
    part = two_halves(leader, gone=False, now=START_S + 50)
    assert part.instance.epoch not in {one.epoch for one in leader.instances}


def test_a_new_link_does_not_lose_what_is_being_adopted() -> None:
    leader = leading(A, B)
    book = leader._intents
    book.mint(MODEL.digest, "tiny", Wishes(MODEL.digest, 64, 1), A)
    part = HeldPart(instance(id=book.wanted()[0].id), 0, "loading", "", 0.5)
    leader.see(members(A, B), frozenset({A, B}), START_S)
    leader.receive(A, StagesHeld(BALLOT, (part,)), START_S)
    leader._heard.discard(B)
    assert leader.peer_up(A)[0] != ()
    leader.tick(START_S + 0.25)
    assert part.instance.epoch in {one.epoch for one in leader.instances if one.state is not InstanceState.FAILED}


def test_what_a_node_of_another_leader_holds_is_known_by_gossip() -> None:
    leader = leading(A)
    book = leader._intents
    book.mint(MODEL.digest, "tiny", Wishes(MODEL.digest, 64, 1), A)
    whole = instance(id=book.wanted()[0].id)
    told = replace(TOLD, stages=(HeldStage(whole.id, whole.epoch, 1, "ready"),))
    leader.see((*members(A), *members(B, told=told)), frozenset({A}), START_S)
    leader.receive(A, StagesHeld(BALLOT, (HeldPart(whole, 0, "ready", "", 1.0),)), START_S)
    leader.tick(START_S)
    assert [(one.epoch, one.state) for one in leader.instances] == [(whole.epoch, InstanceState.READY)]


def test_a_ready_placement_takes_the_place_of_a_failed_one() -> None:
    leader = leading(A)
    placed = loaded(leader)
    for _ in range(2):
        (one,) = [one for one in leader.instances if one.state is not InstanceState.FAILED]
        leader.receive(A, StageReport(one.id, one.epoch, 0, "failed", "It ended."), START_S)
    (failed,) = leader.instances
    leader.receive(A, StagesHeld(BALLOT, (), version=99), START_S)
    assert leader.instances == (failed,), "what failed is not missed"
    found = replace(failed, epoch=Epoch(9, B, 1), stages=placed.stages, state=InstanceState.READY, reason="")
    leader.receive(A, StagesHeld(BALLOT, (HeldPart(found, 0, "ready", "", 1.0),), version=99), START_S)
    leader.tick(START_S + 0.25)
    assert [one.epoch for one in leader.instances] == [found.epoch]


def test_what_is_wanted_waits_for_those_who_are_joining_before_it_settles_for_less() -> None:
    leader = leading(A)
    leader._intents.mint(MODEL.digest, "tiny", Wishes(MODEL.digest, 64, 1, min_nodes=2), A)
    leader.tick(START_S)
    first = START_S + 100.0
    leader.resign()
    leader.lead(BALLOT, first)
    leader.see(members(A, B), frozenset({A, B}), first)
    leader.receive(A, StagesHeld(BALLOT, ()), first)
    leader._present_since.pop(B)  # not a node that may hold something, but one that may soon obey
    leader.tick(first)
    assert leader.instances == ()
    leader.receive(B, StagesHeld(BALLOT, ()), first + 0.5)
    assert len(commands(leader.tick(first + 0.5))) == 2
