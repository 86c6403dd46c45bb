"""The leader's duties where a mesh seldom gets: too early, too many, too late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control import intents as intents_module
from peerinfer.control import outbox
from peerinfer.control.effects import Broadcast
from peerinfer.control.intents import IntentBook
from peerinfer.control.leader import JOIN_S, Leader
from peerinfer.control.messages import (
    HeldPart,
    Instances,
    StageReport,
    StagesHeld,
    UnloadRequest,
)
from peerinfer.control.placements import Placements
from peerinfer.control.planning import Wishes
from peerinfer.control.state import InstanceState
from peerinfer.errors import NoPlacement
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


def test_a_request_that_comes_twice_is_answered_twice_and_done_once() -> None:
    leader = leading(A)
    first = leader.receive(B, LOAD, START_S)
    assert len(commands(first)) == 1
    assert leader.receive(B, LOAD, START_S) == (), "it waits already"
    placed = loaded_instance(first)
    (reply,) = replies(leader.receive(A, StageReport(placed.id, placed.epoch, 0, "ready", "", 1.0), START_S))
    assert replies(leader.receive(B, LOAD, START_S)) == [reply]
    assert commands(leader.receive(B, LOAD, START_S)) == []


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
