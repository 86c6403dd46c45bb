"""The leader's duties where a mesh seldom gets: too early, too many, too late, and what nobody should have said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control import intents as intents_module
from peerinfer.control import outbox, placements
from peerinfer.control.effects import Broadcast, Effects
from peerinfer.control.intents import IntentBook
from peerinfer.control.leader import JOIN_S, SILENCE_MAX_S, Leader
from peerinfer.control.members import Member
from peerinfer.control.messages import (
    DropStage,
    HeldPart,
    Instances,
    LoadRequest,
    LoadStage,
    RequestReply,
    StageReport,
    StagesHeld,
    UnloadRequest,
)
from peerinfer.control.placements import Placements
from peerinfer.control.planning import Wishes
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.election.ballot import Ballot
from peerinfer.errors import NoPlacement
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch
from tests.control.cluster import GB, MESH, MODEL, FakeSigner

A, B = "a" * 32, "b" * 32
BALLOT = Ballot(4, A)
TOLD = Snapshot("n", "1", 8 * GB, 8 * GB, engines=("llama.cpp",), models=(MODEL,))
LOAD = LoadRequest("r1", "tiny", MODEL.digest, 64, 1, "latency", 1)
START_S = JOIN_S + 1.0


def members(*nodes: str, told: Snapshot | None = TOLD, state: Liveness = Liveness.ALIVE) -> tuple[Member, ...]:
    return tuple(Member(node, node[:1], state if node != A else Liveness.ALIVE, told) for node in nodes)


def leading(*nodes: str, told: Snapshot = TOLD) -> Leader:
    """A leads, and all have said that they hold nothing."""
    leader = Leader(A, IntentBook(A, MESH, FakeSigner(A)))
    leader.lead(BALLOT, 0.0)
    leader.see(members(*nodes, told=told), frozenset(nodes), START_S)
    for node in nodes:
        leader.receive(node, StagesHeld(BALLOT, ()), START_S)
    leader.tick(START_S)
    return leader


def replies(effects: Effects) -> list[RequestReply]:
    sent = [effect.message for effect in effects if isinstance(effect, SendTo)]
    return [message for message in sent if isinstance(message, RequestReply)]


def commands(effects: Effects) -> list[object]:
    sent = [effect.message for effect in effects if isinstance(effect, SendTo)]
    return [message for message in sent if isinstance(message, (LoadStage, DropStage))]


def instance(epoch: Epoch = Epoch(3, B, 1), **changes: object) -> Instance:  # noqa: B008  (a value)
    stages = (StagePlace(A, "llama.cpp", 0, 15), StagePlace(B, "llama.cpp", 15, 30))
    whole = Instance("i" * 32, "tiny", MODEL.digest, epoch, InstanceState.READY, stages, 64, 1)
    return replace(whole, **changes)


def loaded(leader: Leader, request: LoadRequest = LOAD, now: float = START_S) -> Instance:
    (command,) = commands(leader.receive(B, request, now))
    assert isinstance(command, LoadStage)
    placed = command.instance
    leader.receive(placed.stages[0].node, StageReport(placed.id, placed.epoch, 0, "ready", "", 1.0), now)
    return placed


def test_who_does_not_lead_says_so() -> None:
    leader = Leader(A, IntentBook(A, MESH, FakeSigner(A)))
    assert [reply.code for reply in replies(leader.receive(B, LOAD, 0.0))] == ["no_leader"]
    assert leader.tick(0.0) == ()
    assert leader.see(members(A), frozenset({A}), 0.0) == ()
    assert leader.peer_up(B) == ()
    assert leader.receive(B, StagesHeld(BALLOT, ()), 0.0) == ()


def test_a_new_leader_places_nothing_before_it_heard_the_others() -> None:
    leader = Leader(A, IntentBook(A, MESH, FakeSigner(A)))
    leader.lead(BALLOT, 0.0)
    leader.see(members(A, B), frozenset({A, B}), 0.0)
    leader.receive(A, StagesHeld(BALLOT, ()), 0.0)
    assert [reply.code for reply in replies(leader.receive(B, LOAD, 0.1))] == ["no_leader"]
    assert not any(isinstance(effect, Broadcast) for effect in leader.tick(0.2)), "its list is not the truth yet"
    leader.receive(B, StagesHeld(BALLOT, ()), 0.3)
    assert len(commands(leader.receive(B, LOAD, 0.3))) == 1


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


def test_a_request_that_comes_twice_is_answered_twice_and_done_once() -> None:
    leader = leading(A)
    first = leader.receive(B, LOAD, START_S)
    assert len(commands(first)) == 1
    assert leader.receive(B, LOAD, START_S) == (), "it waits already"
    placed = loaded_instance(first)
    (reply,) = replies(leader.receive(A, StageReport(placed.id, placed.epoch, 0, "ready", "", 1.0), START_S))
    assert replies(leader.receive(B, LOAD, START_S)) == [reply]
    assert commands(leader.receive(B, LOAD, START_S)) == []


def loaded_instance(effects: Effects) -> Instance:
    (command,) = commands(effects)
    assert isinstance(command, LoadStage)
    return command.instance


def test_only_so_many_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ANSWERED_MAX", 1)
    leader = leading(A)
    loaded(leader)
    for number in ("r2", "r1"):
        assert len(replies(leader.receive(B, replace(LOAD, request_id=number), START_S))) == 1


def test_a_repeated_unload_of_what_is_gone_is_no_error() -> None:
    leader = leading(A)
    placed = loaded(leader)
    assert [reply.code for reply in replies(leader.receive(B, UnloadRequest("u1", "tiny"), START_S))] == [""]
    assert [reply.code for reply in replies(leader.receive(B, UnloadRequest("u2", "tiny"), START_S))] == [
        "model_not_found"
    ]
    again = replies(leader.receive(B, UnloadRequest("u3", "tiny", is_repeated=True), START_S))
    assert [(reply.code, reply.instance) for reply in again] == [("", placed.id)]


def test_a_model_that_no_member_has_is_unknown() -> None:
    leader = leading(A)
    (reply,) = replies(leader.receive(B, replace(LOAD, digest="e" * 64), START_S))
    assert reply.code == "model_not_found"


@pytest.mark.parametrize(
    "changes",
    [{"context": -1}, {"slots": -1}, {"slots": 257}, {"min_nodes": -1}, {"min_nodes": 65}, {"policy": "fast"}],
)
def test_wishes_that_cannot_be_are_refused_with_a_sentence(changes: dict[str, object]) -> None:
    (reply,) = replies(leading(A).receive(B, replace(LOAD, **changes), START_S))
    assert reply.code == "bad_request"
    assert reply.reason.endswith(".")


def test_a_full_book_of_wishes_takes_no_more_and_tells_nobody_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents_module, "INTENTS_MAX", 0)
    effects = leading(A).receive(B, LOAD, START_S)
    assert "unload one first" in replies(effects)[0].reason
    assert not any(isinstance(effect, Broadcast) for effect in effects)


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
    leader.receive(A, StagesHeld(BALLOT, ()), START_S)
    assert leader.instances == (loaded_instance(effects),)


def test_a_stage_missed_twice_is_lost_once() -> None:
    leader = leading(A)
    loaded(leader)
    leader.receive(A, StagesHeld(BALLOT, ()), START_S + 100)
    leader.receive(A, StagesHeld(BALLOT, ()), START_S + 100)
    assert [one.state for one in leader.instances] == [InstanceState.LOADING], "it is being placed again"


def test_reports_of_what_failed_change_nothing() -> None:
    leader = leading(A)
    placed = loaded(leader)
    failed = StageReport(placed.id, placed.epoch, 0, "failed", "It ended.")
    leader.receive(A, failed, START_S)
    leader.receive(A, replace(failed, epoch=leader.instances[0].epoch), START_S)
    (shown,) = leader.instances
    assert shown.state is InstanceState.FAILED
    leader.receive(A, StageReport(shown.id, shown.epoch, 0, "ready", "", 1.0), START_S)
    leader.receive(A, StagesHeld(BALLOT, ()), START_S)
    assert leader.instances == (shown,)


def test_what_is_wanted_and_cannot_stand_is_shown_as_failed_and_tried_again() -> None:
    leader = leading(A)
    loaded(leader)
    book = IntentBook(A, MESH, FakeSigner(A), leader._intents.statements)
    small = Leader(A, book)
    small.lead(BALLOT, 0.0)
    small.see(members(A, told=replace(TOLD, models=())), frozenset({A}), START_S)
    small.receive(A, StagesHeld(BALLOT, ()), START_S)
    small.tick(START_S)
    (shown,) = small.instances
    assert (shown.state, shown.stages) == (InstanceState.FAILED, ())
    assert "no node that is up has the file" in shown.reason.lower()
    small.see(members(A), frozenset({A}), START_S + 1)
    assert commands(small.tick(START_S + 1)) == []
    assert len(commands(small.tick(START_S + 11))) == 1


def test_a_node_that_said_nothing_of_itself_gets_no_stage() -> None:
    leader = leading(A)
    leader.see((*members(A, told=replace(TOLD, memory_bytes=1)), *members(B, told=None)), frozenset({A, B}), START_S)
    leader.receive(B, StagesHeld(BALLOT, ()), START_S)
    (reply,) = replies(leader.receive(A, LOAD, START_S))
    assert reply.code == "no_placement"
    assert "has not told yet" in reply.reason


def test_a_node_that_obeys_another_leader_gets_no_stage() -> None:
    leader = leading(A)
    both = (*members(A, told=replace(TOLD, memory_bytes=1)), *members(B))
    for now in (START_S, START_S + JOIN_S):
        leader.see(both, frozenset({A}), now)
    (reply,) = replies(leader.receive(A, LOAD, START_S + JOIN_S))
    assert "another leader" in reply.reason


def test_whoever_does_not_lead_places_nothing() -> None:
    book = IntentBook(A, MESH, FakeSigner(A))
    book.mint(MODEL.digest, "tiny", Wishes(MODEL.digest, 64, 1), A)
    alone = Placements(book)
    alone.members, alone.obeying = members(A), frozenset({A})
    with pytest.raises(NoPlacement, match="does not lead"):
        alone.place_wanted(book.wanted()[0], 0.0)
    assert alone.instances == ()


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


def test_the_list_is_told_again_and_names_those_who_did_not_tell() -> None:
    leader = leading(A)
    leader.see(members(A, B), frozenset({A, B}), START_S + 10)
    leader.see(members(A, B), frozenset({A, B}), START_S + 20)
    lists = [effect.message for effect in leader.tick(START_S + 20) if isinstance(effect, Broadcast)]
    assert any(isinstance(told, Instances) and told.asking == (B,) for told in lists)


def test_a_model_whose_file_went_with_its_node_takes_no_room_in_a_plan() -> None:
    leader = leading(A, B)
    other = instance(digest="e" * 64)
    leader.receive(A, StagesHeld(BALLOT, (HeldPart(other, 0, "ready", "", 1.0),)), START_S)
    leader.receive(B, StagesHeld(BALLOT, (HeldPart(other, 1, "ready", "", 1.0),)), START_S)
    assert len(commands(leader.receive(A, LOAD, START_S))) == 1


def test_whoever_does_not_lead_commands_nothing() -> None:
    out = outbox.Outbox(IntentBook(A, MESH, FakeSigner(A)))
    out.drop(instance())
    assert out.empty(()) == ()
