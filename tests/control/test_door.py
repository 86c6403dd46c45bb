"""The door of control, driven by hand: disks that fail, clocks that jump, and the last words of a node that stops."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from peerinfer.control.effects import Answered
from peerinfer.control.messages import DropStage, LoadRequest, LoadStage, RequestReply
from peerinfer.control.service import ControlService
from peerinfer.control.surroundings import Surroundings
from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.election.messages import Grant, LeaderHeartbeat, Release
from peerinfer.errors import DiskFull
from peerinfer.gossip.messages import Farewell
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import HeldModel, HeldStage, Snapshot
from peerinfer.net.frames import Epoch
from tests.control.cluster import GB, MESH, MODEL, FakeSigner, node_id

ME, PEER = node_id(1), node_id(2)
TOLD = Snapshot("me", "1", 8 * GB, 8 * GB, engines=("llama.cpp",), models=(MODEL,))


class Disk:
    """What is saved, and whether it can be."""

    def __init__(self) -> None:
        self.value = NO_BALLOT
        self.saved: list[object] = []
        self.is_full = False

    def save(self, what: Any) -> None:
        if self.is_full:
            raise DiskFull("The disk is full; free some space.")
        self.saved.append(what)

    def load(self) -> tuple[bytes, ...]:
        return ()


class Facts:
    incarnation = 1
    rtt_us = 100.0

    def __init__(self, last_heard: float) -> None:
        self.last_heard = last_heard


class Wires:
    """One peer, which hears everything."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.handlers: dict[type[Any], list[Callable[[str, Any], None]]] = {}
        self.facts: dict[str, Any] = {}

    def send(self, to: str, message: Any) -> None:
        self.sent.append((to, message))

    def on(self, kind: type[Any], handler: Callable[[str, Any], None]) -> None:
        self.handlers.setdefault(kind, []).append(handler)

    def on_peer(self, handler: Callable[[str, bool], None]) -> None: ...

    def peers(self) -> dict[str, Any]:
        return self.facts


class Keeper:
    def __init__(self) -> None:
        self.started: list[object] = []

    def start(self, assignment: object, report: object) -> None:
        self.started.append(assignment)

    def drop(self, instance_id: str, epoch: Epoch) -> None: ...

    def held(self) -> tuple[HeldStage, ...]:
        return ()


class Identity:
    node_id = ME
    mesh_id = MESH

    def sign(self, data: bytes) -> bytes:
        return b"s" * 64


class Incarnation:
    value = 1

    def save(self, value: int) -> None: ...


class House:
    """One node with its clocks in the test's hand."""

    def __init__(self) -> None:
        self.now = self.boot = 1000.0
        self.woke: list[float] = []
        self.answers: list[Answered] = []
        self.promises, self.wanted = Disk(), Disk()
        self.wires, self.keeper = Wires(), Keeper()
        gossip = GossipService(
            Identity(),
            lambda *_: True,
            Incarnation(),
            self.wires,
            lambda: TOLD,
            members=lambda: {ME, PEER},
            clock=lambda: self.now,
        )
        around = Surroundings(
            mesh_id=MESH,
            signer=FakeSigner(ME),
            roster=lambda: {ME: "me", PEER: "peer"},
            portrait=lambda: TOLD,
            find=self.find,
            clock=lambda: self.now,
            boottime=lambda: self.boot,
            promises=self.promises,
            wanted=self.wanted,
            woke=self.woke.append,
        )
        self.gossip = gossip
        self.control = ControlService(
            ME, gossip, wires=self.wires, keeper=self.keeper, around=around, chance=random.Random(1)
        )
        self.control.requests.answered = self.answers.append  # pyright: ignore[reportAttributeAccessIssue]

    async def find(self, _: str) -> HeldModel | None:
        return MODEL

    def pass_time(self, seconds: float, *, with_peer: bool = False) -> None:
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            self.boot += 0.25
            if with_peer:
                self.wires.facts = {PEER: Facts(self.now)}
            self.gossip.tick()
            self.control.tick()
            self.deliver_own()

    def deliver_own(self) -> None:
        own = [message for to, message in self.wires.sent if to == ME]
        self.wires.sent = [(to, message) for to, message in self.wires.sent if to != ME]
        for message in own:
            self.hear(ME, message)

    def hear(self, sender: str, message: Any) -> None:
        for handler in self.wires.handlers.get(type(message), []):
            handler(sender, message)

    def sent(self, kind: type[Any]) -> list[Any]:
        return [message for to, message in self.wires.sent if to == PEER and type(message) is kind]


@pytest.fixture
def house() -> House:
    return House()


def request(number: str = "r1") -> LoadRequest:
    return LoadRequest(number, "tiny", MODEL.digest, 64, 1, "latency", 1)


def test_a_promise_that_cannot_be_saved_is_not_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.pass_time(0.5, with_peer=True)
    house.promises.is_full = True
    ballot = Ballot(5, PEER)
    house.hear(PEER, LeaderHeartbeat(ballot, 1))
    house.pass_time(2.0, with_peer=True)
    assert house.sent(Grant) == []
    assert house.promises.saved == []
    assert sum("takes no part" in record.message for record in caplog.records) == 1, (
        "said once, not four times a second"
    )
    house.promises.is_full = False
    house.pass_time(0.25, with_peer=True)
    assert house.promises.saved[0] == ballot
    assert [grant.ballot for grant in house.sent(Grant)] == [ballot]


def test_a_request_while_nothing_can_be_saved_is_answered_at_once(house: House) -> None:
    house.promises.is_full = True
    house.pass_time(5.0)
    house.control.ask(request())
    assert [(answer.request_id, answer.code) for answer in house.answers] == [("r1", "unavailable")]


def test_what_was_asked_for_is_on_disk_before_it_is_acknowledged(house: House) -> None:
    house.pass_time(6.0)
    house.wanted.is_full = True
    house.control.ask(request())
    house.deliver_own()
    assert house.keeper.started == []
    assert not any(isinstance(message, RequestReply) for _, message in house.wires.sent)
    house.wanted.is_full = False
    house.pass_time(1.0)
    assert len(house.wanted.saved) == 1
    assert len(house.keeper.started) == 1


@pytest.mark.parametrize(("passed_s", "slept_s"), [(60.0, 0.0), (0.25, 3600.0)])
def test_after_a_stall_or_a_sleep_a_leader_leads_no_more_and_all_are_told(
    house: House, passed_s: float, slept_s: float
) -> None:
    house.pass_time(6.0)
    assert house.control.leader == ME
    house.now += passed_s
    house.boot += passed_s + slept_s
    house.wires.facts = {PEER: Facts(house.now)}
    house.hear(PEER, LeaderHeartbeat(Ballot(9, PEER), 1))
    assert house.woke == [pytest.approx(passed_s + slept_s, abs=0.3)]
    assert house.control.leader == PEER, "what it hears now is news, what it knew is not"


def test_a_node_that_stops_says_farewell_and_frees_whom_it_leads(house: House) -> None:
    house.pass_time(6.0)
    house.wires.facts = {PEER: Facts(house.now)}
    house.pass_time(0.25, with_peer=True)
    house.wires.sent.clear()
    house.control.close()
    kinds = [type(message) for to, message in house.wires.sent if to == PEER]
    assert kinds == [Farewell, Release], "in this order: who is released must not count it any more"
    assert house.control.leader is None


def test_a_farewell_is_looked_at_before_anything_else_is_heard(house: House) -> None:
    house.pass_time(1.0, with_peer=True)
    assert [member.state for member in house.control.members()] == ["alive", "alive"]
    house.hear(PEER, Farewell(1))
    assert [member.state for member in house.control.members()] == ["alive", "gone"]


def test_every_command_leaves_a_line_with_its_ballot_and_version(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ballot = Ballot(5, PEER)
    house.pass_time(0.5, with_peer=True)
    house.hear(PEER, LeaderHeartbeat(ballot, 1))
    house.hear(PEER, DropStage(ballot, 3, "i" * 32, Epoch(1, PEER, 1)))
    house.hear(PEER, DropStage(ballot, 2, "i" * 32, Epoch(1, PEER, 1)))
    lines = [record.message for record in caplog.records if "a drop" in record.message]
    assert lines == [
        f"Obeyed a drop: ballot 5 of {PEER}, version 3.",
        f"Refused a drop: ballot 5 of {PEER}, version 2.",
    ]
    assert not any(isinstance(message, LoadStage) for _, message in house.wires.sent)


def test_a_command_that_comes_again_is_told_as_refused(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ballot = Ballot(5, PEER)
    house.pass_time(0.5, with_peer=True)
    house.hear(PEER, LeaderHeartbeat(ballot, 1))
    for _ in range(2):
        house.hear(PEER, DropStage(ballot, 3, "i" * 32, Epoch(1, PEER, 1)))
    verbs = [record.message.split()[0] for record in caplog.records if "a drop" in record.message]
    assert verbs == ["Obeyed", "Refused"]


def test_who_stopped_obeys_and_answers_nobody_more(house: House) -> None:
    ballot = Ballot(5, PEER)
    house.pass_time(0.5, with_peer=True)
    house.hear(PEER, LeaderHeartbeat(ballot, 1))
    house.control.close()
    house.wires.sent.clear()
    house.hear(PEER, DropStage(ballot, 3, "i" * 32, Epoch(1, PEER, 1)))
    house.hear(PEER, LeaderHeartbeat(ballot, 1))
    house.control.tick()
    assert house.wires.sent == []
    house.control.ask(request())
    assert [answer.code for answer in house.answers] == ["unavailable"]


def test_a_promise_made_in_a_step_that_fails_is_saved_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault of the program")

    house.pass_time(0.5, with_peer=True)
    monkeypatch.setattr(house.control._plane, "_settle", fails)
    with pytest.raises(RuntimeError):
        house.hear(PEER, LeaderHeartbeat(Ballot(5, PEER), 1))
    assert house.promises.saved == [Ballot(5, PEER)]


def test_what_waited_long_for_the_disk_is_saved_but_not_said_any_more(house: House) -> None:
    house.pass_time(0.5, with_peer=True)
    house.promises.is_full = True
    house.hear(PEER, LeaderHeartbeat(Ballot(5, PEER), 1))
    house.pass_time(10.0, with_peer=True)
    house.promises.is_full = False
    house.pass_time(0.25, with_peer=True)
    assert house.promises.saved[0] == Ballot(5, PEER)
    assert house.sent(Grant) == []


def test_a_farewell_that_cannot_be_said_stops_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise DiskFull("The disk is full; free some space.")

    house.pass_time(6.0)
    monkeypatch.setattr(house.gossip, "farewell", full)
    house.control.close()
    assert house.control.leader is None
