"""The door of control on three nodes of one event loop: requests, errors, events and status."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from peerinfer.clock import monotonic
from peerinfer.control import requests as control_requests
from peerinfer.control import service as control_service
from peerinfer.control.apply import apply
from peerinfer.control.effects import InstanceBecameReady, StageAssignment
from peerinfer.control.events import ClusterEvent, InstancesChanged, NeighboursChanged, SnapshotReceived, SpeedMeasured
from peerinfer.control.service import ControlService, Event
from peerinfer.control.state import ClusterState, InstanceState, Neighbour
from peerinfer.control.status import status
from peerinfer.control.storage import IntentFile
from peerinfer.control.surroundings import Surroundings
from peerinfer.control.worker import Report
from peerinfer.election.storage import PromiseFile
from peerinfer.errors import BadRequest, EngineError, LinkDown, NoPlacement, RequestError, UnknownModel
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import HeldModel, HeldStage, Snapshot
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import decode, encode
from peerinfer.net.switchboard import LinkFacts, Switchboard
from tests.control.cluster import GB, MODEL, FakeSigner, node_id


class Board(Switchboard):
    """Links in memory, through the wire codec."""

    def __init__(self, own_id: str, boards: dict[str, Board]) -> None:
        super().__init__(own_id)
        self.boards = boards
        boards[own_id] = self

    def send(self, to: str, message: object) -> None:
        if to not in self.boards:
            raise LinkDown("That node is gone.")
        asyncio.get_running_loop().call_soon(self.boards[to].take_message, self.own_id, decode(encode(message)))

    def peers(self) -> dict[str, LinkFacts]:
        facts = LinkFacts("", "", 1, 100.0, 100.0, 100, 0, monotonic(), 0, 0, False)
        return dict.fromkeys(self.boards.keys() - {self.own_id}, facts)


@dataclass
class Keeper:
    """Loads at once, or as told."""

    fails: str = ""
    waits: bool = False
    stages: dict[tuple[str, Epoch], int] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)

    def start(self, assignment: StageAssignment, report: Report) -> None:
        if self.fails:
            raise EngineError(self.fails)
        self.stages[assignment.instance.id, assignment.instance.epoch] = assignment.stage
        self.reports.append(report)
        report("loading", "", 0.5)
        if not self.waits:
            asyncio.get_running_loop().call_soon(report, "ready", "", 1.0)

    def drop(self, instance_id: str, epoch: Epoch) -> None:
        self.stages.pop((instance_id, epoch), None)

    def held(self) -> tuple[HeldStage, ...]:
        return tuple(HeldStage(key[0], key[1], stage, "loading", 0.5) for key, stage in self.stages.items())


@dataclass
class Identity:
    node_id: str
    mesh_id: str = "aa" * 16

    def sign(self, data: bytes) -> bytes:
        return b"s" * 64


@dataclass
class Counter:
    value: int = 1

    def save(self, value: int) -> None:
        self.value = value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.01)


class Node:
    def __init__(self, number: int, home: Path, boards: dict[str, Board], models: tuple[HeldModel, ...]) -> None:
        home.mkdir()
        self.id = node_id(number)
        self.models = models
        self.told = Snapshot(f"n{number}", "1", 8 * GB, 8 * GB, engines=("llama.cpp",))
        self.keeper = Keeper()
        self.events: list[Event] = []
        self.speeds: dict[str, tuple[float, float]] = {}
        self.near: list[Neighbour] = []
        wires = Board(self.id, boards)
        self.gossip = GossipService(
            Identity(self.id), lambda *_: True, Counter(), wires, self.portrait, members=self.roster
        )
        around = Surroundings(
            mesh_id="aa" * 16,
            signer=FakeSigner(self.id),
            roster=self.roster,
            portrait=self.portrait,
            find=self.find,
            clock=monotonic,
            boottime=monotonic,
            promises=PromiseFile(home / "promise"),
            wanted=IntentFile(home / "intents", "aa" * 16),
            nearby=lambda: self.near,
            measured=self.speeds.get,
        )
        self.control = ControlService(
            self.id, self.gossip, wires=wires, keeper=self.keeper, around=around, chance=random.Random(number)
        )
        self.control.add_listener(self.events.append)

    def roster(self) -> dict[str, str]:
        return {node_id(each): f"n{each}" for each in (1, 2, 3)}

    def portrait(self) -> Snapshot:
        return replace(self.told, models=self.models, stages=self.keeper.held())

    async def find(self, name: str) -> HeldModel | None:
        return next((model for model in self.models if model.name == name), None)


class Mesh:
    def __init__(self, home: Path) -> None:
        boards: dict[str, Board] = {}
        self.nodes = [Node(number, home / str(number), boards, (MODEL,)) for number in (1, 2, 3)]

    async def settle(self) -> None:
        """Until all follow one node and know of everybody's files."""
        await until(lambda: all(self._knows(node) for node in self.nodes))

    def _knows(self, node: Node) -> bool:
        leaders = {each.control.leader for each in self.nodes}
        return len(leaders) == 1 and None not in leaders and all(one.snapshot for one in node.control.members())


@pytest.fixture
async def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    monkeypatch.setattr(control_service, "TICK_S", 0.02)
    monkeypatch.setattr(control_requests, "PROGRESS_S", 0.01)
    mesh = Mesh(tmp_path)
    running = [asyncio.create_task(work) for node in mesh.nodes for work in (node.gossip.run(), node.control.run())]
    await mesh.settle()
    yield mesh
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_model_is_loaded_from_any_node_and_unloaded_from_another(mesh: Mesh) -> None:
    _, two, three = mesh.nodes
    instance = await three.control.requests.load("tiny", min_nodes=3)
    assert instance.state is InstanceState.READY
    assert len(instance.stages) == 3
    assert three.control.instances() == (instance,)
    assert [one.instance for one in three.events if isinstance(one, InstanceBecameReady)] == [instance]
    await two.control.requests.unload("tiny")
    assert two.control.instances() == ()
    with pytest.raises(UnknownModel, match="not loaded"):
        await two.control.requests.unload("tiny")


async def test_progress_is_told_while_a_model_loads(mesh: Mesh) -> None:
    one, two, _ = mesh.nodes
    one.keeper.waits = True
    shares: list[float] = []
    load = asyncio.create_task(two.control.requests.load("tiny", min_nodes=3, progress=shares.append))
    await until(lambda: any(share > 0 for share in shares))
    one.keeper.reports[0]("ready", "", 1.0)
    await load
    assert all(0 <= share <= 1 for share in shares)


async def test_errors_of_the_leader_arrive_as_what_they_are(mesh: Mesh) -> None:
    _, two, three = mesh.nodes
    with pytest.raises(NoPlacement, match="4 nodes were asked for"):
        await two.control.requests.load("tiny", min_nodes=4)
    with pytest.raises(RequestError, match="hole"):
        await two.control.requests.load("tiny", stages=(("n1", 0, 10),))
    with pytest.raises(UnknownModel, match="available: tiny"):
        await two.control.requests.load("absent")
    three.keeper.fails = "The engine is not there."
    with pytest.raises(EngineError, match=r"on n3 failed\. The engine is not there\."):
        await two.control.requests.load("tiny", min_nodes=3)


async def test_a_chat_loads_its_model_once_for_all_who_wait(mesh: Mesh) -> None:
    one, two, _ = mesh.nodes
    found = await asyncio.gather(*(node.control.requests.ensure("tiny") for node in (one, two) for _ in range(5)))
    assert len({instance.id for instance in found}) == 1
    assert sum(len(node.keeper.reports) for node in mesh.nodes) == 1
    assert await one.control.requests.ensure("") == found[0]
    assert await one.control.requests.ensure("TINY") == found[0]


async def test_a_waiter_that_goes_away_stops_nobody_else(mesh: Mesh) -> None:
    one = mesh.nodes[0]
    one.keeper.waits = True
    leaves, stays = (asyncio.create_task(one.control.requests.ensure("tiny")) for _ in range(2))
    await until(lambda: bool(one.keeper.reports))
    leaves.cancel()
    one.keeper.reports[0]("ready", "", 1.0)
    assert (await stays).state is InstanceState.READY


async def test_without_a_name_there_must_be_exactly_one_model(mesh: Mesh) -> None:
    one = mesh.nodes[0]
    with pytest.raises(UnknownModel, match="No model is loaded"):
        await one.control.requests.ensure("")
    one.models = (MODEL, replace(MODEL, name="small", digest="e" * 64))
    await one.control.requests.load("tiny")
    await one.control.requests.load("small")
    with pytest.raises(BadRequest, match="small, tiny"):
        await one.control.requests.ensure("")


async def test_a_node_without_the_file_loads_what_others_have(mesh: Mesh) -> None:
    three = mesh.nodes[2]
    three.models = ()
    three.gossip.push()
    instance = await three.control.requests.load("tiny")
    assert three.id not in [stage.node for stage in instance.stages]


async def test_status_shows_the_mesh_from_here(mesh: Mesh) -> None:
    two = mesh.nodes[1]
    await two.control.requests.load("tiny", min_nodes=2)
    shown = two.control.status()
    assert shown["node"]["name"] == "n2"
    assert shown["mesh"]["leader"] == two.control.leader
    assert [one["state"] for one in shown["members"]] == ["alive"] * 3
    assert {link["to"] for link in shown["links"]} == {node_id(1), node_id(3)}
    assert [one["state"] for one in shown["instances"]] == ["ready"]


@dataclass(eq=False)
class Reader:
    """Folds along from where it begins."""

    state: ClusterState
    number: int = 0
    heard: list[ClusterEvent] = field(default_factory=list)
    is_over: bool = False

    def told(self, number: int, event: ClusterEvent) -> None:
        assert number == self.number + 1
        self.number, self.state = number, apply(self.state, event)
        self.heard.append(event)

    def ended(self) -> None:
        self.is_over = True


async def test_who_follows_the_chronicle_sees_what_status_shows(mesh: Mesh) -> None:
    one, two, _ = mesh.nodes
    control = two.control
    reader = Reader(control.chronicle.state)
    reader.number, _ = control.chronicle.follow(reader)
    instance = await control.requests.load("tiny", min_nodes=2)
    two.speeds[instance.id] = (50.0, 10.0)
    two.near.append(Neighbour("192.0.2.9:8643", False))
    one.told = replace(one.told, memory_free_bytes=5 * GB)
    one.gossip.push()
    kinds = {InstancesChanged, SpeedMeasured, NeighboursChanged, SnapshotReceived}
    await until(lambda: kinds <= {type(event) for event in reader.heard})
    shown = control.status()
    assert status(reader.state) == shown
    assert shown["instances"][0]["measured"] == {"tokens_per_s": 50.0, "ttft_ms": 10.0}
    assert shown["nearby"] == [{"address": "192.0.2.9:8643", "pairing": False, "pairing_port": None}]
    control.close()
    assert reader.is_over


async def test_without_changes_there_is_nothing_to_tell(mesh: Mesh) -> None:
    two = mesh.nodes[1]
    two.control.status()
    before = two.control.chronicle.number
    for _ in range(10):
        two.control.status()
    assert two.control.chronicle.number == before
