"""A mesh of control planes under a virtual clock: messages wait in a seeded bus, nodes die, return and lose links."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from peerinfer.control.effects import Answered, Broadcast, Effects, SaveIntents, SolvePlacement, StartStage, StopStage
from peerinfer.control.intents import IntentBook
from peerinfer.control.members import Members, members_now
from peerinfer.control.messages import LoadRequest, UnloadRequest
from peerinfer.control.plane import ControlPlane
from peerinfer.control.state import Instance
from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.election.effects import SaveBallot
from peerinfer.election.machine import Election
from peerinfer.gossip.liveness import Liveness, liveness
from peerinfer.gossip.snapshot import HeldModel, HeldStage, Snapshot
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import decode, encode

GB = 10**9
STEP_S = 0.25
SETTLED_S = 6.0
"""A mesh that starts together has a leader by then."""
MODEL = HeldModel(
    name="tiny",
    digest="d" * 64,
    size_bytes=3 * GB,
    layers=30,
    layer_bytes=GB // 10,
    embedding_bytes=0,
    head_bytes=0,
    kv_bytes=0,
    context_length=8192,
    legal_cuts=tuple(range(1, 30)),
)


MESH = "aa" * 16


def node_id(number: int) -> str:
    return f"{number:032x}"


@dataclass
class FakeSigner:
    """Signatures that only their node can make, and that are cheap."""

    node: str
    removed: set[str] = field(default_factory=set)

    def sign(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self.node.encode(), digest_size=16).digest()

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        made = hashlib.blake2b(data, key=node.encode(), digest_size=16).digest()
        return self.is_member(node) and made == signature

    def is_member(self, node: str) -> bool:
        return node not in self.removed


@dataclass
class Disk:
    """What survives a crash."""

    ballot: Ballot = NO_BALLOT
    intents: tuple[bytes, ...] = ()


@dataclass
class FakeKeeper:
    """Holds stages that become ready after `loads_in_s`, or never, or fail."""

    loads_in_s: float = 1.0
    fails: str = ""
    stages: dict[tuple[str, Epoch], tuple[Instance, int, float]] = field(default_factory=dict)
    ready: set[tuple[str, Epoch]] = field(default_factory=set)
    starts: int = 0

    def start(self, instance: Instance, stage: int, now: float) -> None:
        self.starts += 1
        self.stages[instance.id, instance.epoch] = (instance, stage, now)

    def drop(self, instance: str, epoch: Epoch) -> None:
        self.stages.pop((instance, epoch), None)
        self.ready.discard((instance, epoch))

    def due(self, now: float) -> list[tuple[Instance, str, str, float]]:
        """Reports whose time has come."""
        reports = []
        for key, (instance, _, since) in self.stages.items():
            if key in self.ready or now - since < self.loads_in_s:
                continue
            self.ready.add(key)
            reports.append((instance, "failed", self.fails, 0.0) if self.fails else (instance, "ready", "", 1.0))
        return reports

    def held(self) -> tuple[HeldStage, ...]:
        return tuple(
            HeldStage(instance.id, instance.epoch, stage, "ready" if key in self.ready else "loading")
            for key, (instance, stage, _) in self.stages.items()
        )


class Node:
    def __init__(self, number: int, disk: Disk, since: float, told: Snapshot) -> None:
        self.id = node_id(number)
        self.disk = disk
        self.since = since
        self.told = told
        chance = random.Random(f"{number} {since}")
        election = Election(self.id, disk.ballot, chance, since)
        book = IntentBook(self.id, MESH, FakeSigner(self.id), disk.intents)
        self.plane = ControlPlane(self.id, election, book, chance)
        self.keeper = FakeKeeper()
        self.heard_at: dict[str, float] = {}
        self.answers: dict[str, Answered] = {}


class Cluster:
    """`count` nodes, numbered from 1. Every message goes through the wire codec."""

    def __init__(self, count: int, seed: int = 0, memory_bytes: int = 8 * GB) -> None:
        self.now = 1000.0
        self.chance = random.Random(seed)
        self.cut: set[frozenset[str]] = set()
        self._linked: set[frozenset[str]] = set()
        self._wires: dict[tuple[str, str], deque[bytes]] = {}
        self._asked = 0
        told = Snapshot("", "1", memory_bytes, memory_bytes, engines=("llama.cpp",), models=(MODEL,))
        self.nodes = {
            node_id(number): Node(number, Disk(), self.now, replace(told, name=f"n{number}"))
            for number in range(1, count + 1)
        }
        self.dead: set[str] = set()

    def node(self, number: int) -> Node:
        return self.nodes[node_id(number)]

    def tell(self, number: int, **changes: object) -> None:
        self.node(number).told = replace(self.node(number).told, **changes)

    def kill(self, number: int) -> None:
        self.dead.add(node_id(number))
        for pair in list(self._wires):
            if node_id(number) in pair:
                del self._wires[pair]

    def restart(self, number: int) -> Node:
        old = self.node(number)
        self.nodes[old.id] = fresh = Node(number, old.disk, self.now, old.told)
        self.dead.discard(old.id)
        self._linked = {link for link in self._linked if old.id not in link}
        return fresh

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def step(self) -> None:
        self.now += STEP_S
        self._meet()
        for node in self._alive():
            self._do(node, node.plane.see(self._members(node), self.now, reach=len(self.nodes)))
            self._do(node, node.plane.tick(self.now))
            for instance, state, reason, progress in node.keeper.due(self.now):
                self._do(node, node.plane.reported(instance, state, reason, progress))
        self._deliver()

    def load(self, asker: int, **wishes: Any) -> str:
        """Asks for the model; the id of the request."""
        values: dict[str, Any] = {
            "context": 1024,
            "slots": 1,
            "policy": "latency",
            "min_nodes": 1,
            "stages": (),
        } | wishes
        self._asked += 1
        request = LoadRequest(f"load {self._asked}", MODEL.name, MODEL.digest, **values)
        self.ask(asker, request)
        return request.request_id

    def unload(self, asker: int, model: str = MODEL.name) -> str:
        self._asked += 1
        request = UnloadRequest(f"unload {self._asked}", model)
        self.ask(asker, request)
        return request.request_id

    def ask(self, asker: int, request: LoadRequest | UnloadRequest) -> None:
        self._do(self.node(asker), self.node(asker).plane.ask(request, self.now))

    def report(self, number: int, instance: Instance, state: str, reason: str) -> None:
        node = self.node(number)
        self._do(node, node.plane.reported(instance, state, reason, 0.0))
        self._deliver()

    def do(self, number: int, effects: Effects) -> None:
        """Carries out what a node's plane was made to say."""
        self._do(self.node(number), effects)
        self._deliver()

    def answer(self, asker: int, request_id: str) -> Answered | None:
        return self.node(asker).answers.get(request_id)

    def leader(self) -> int:
        """The number of the node that all follow."""
        leaders = {node.plane.election.leader for node in self._alive()}
        assert len(leaders) == 1, leaders
        (leader,) = leaders
        assert leader is not None
        return int(leader, 16)

    def followers(self) -> list[int]:
        """The numbers of the living nodes that do not lead."""
        return [int(node.id, 16) for node in self._alive() if int(node.id, 16) != self.leader()]

    def views(self) -> list[tuple[Instance, ...]]:
        """The instances as each living node knows them."""
        return [node.plane.instances for node in self._alive()]

    def only(self) -> Instance:
        """The one instance that all agree on."""
        views = self.views()
        assert all(view == views[0] for view in views), views
        assert len(views[0]) == 1, views[0]
        return views[0][0]

    def _alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.id not in self.dead]

    def _joined(self, one: str, other: str) -> bool:
        return one == other or not ({one, other} & self.dead or frozenset((one, other)) in self.cut)

    def _meet(self) -> None:
        """Heartbeats, and links that are new."""
        alive = self._alive()
        for node in alive:
            for other in alive:
                if other is not node and self._joined(node.id, other.id):
                    node.heard_at[other.id] = self.now
        links = {frozenset((a.id, b.id)) for a in alive for b in alive if a is not b and self._joined(a.id, b.id)}
        for link in sorted(links - self._linked, key=sorted):
            for one in sorted(link):
                (other,) = link - {one}
                node = self.nodes[one]
                self._do(node, node.plane.see(self._members(node), self.now, reach=len(self.nodes)))
                self._do(node, node.plane.peer_up(other, self.now))
        self._linked = links

    def _members(self, node: Node) -> Members:
        def snapshot_of(other: str) -> Snapshot | None:
            if other != node.id and other not in node.heard_at:
                return None
            return replace(self.nodes[other].told, stages=self.nodes[other].keeper.held())

        def liveness_of(other: str) -> Liveness:
            return Liveness.ALIVE if other == node.id else liveness(node.heard_at.get(other), node.since, self.now)

        return members_now(node.id, dict.fromkeys(self.nodes, ""), liveness_of, snapshot_of)

    def _do(self, node: Node, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case SendTo(to, message):
                    self._send(node.id, to, message)
                case Broadcast(message):
                    self._send_all(node, message)
                case StartStage(assignment):
                    node.keeper.start(assignment.instance, assignment.stage, self.now)
                case StopStage(instance, epoch):
                    node.keeper.drop(instance, epoch)
                case SaveBallot(ballot):
                    node.disk.ballot = ballot
                case SaveIntents(statements):
                    node.disk.intents = statements
                case SolvePlacement(number):
                    self._do(node, node.plane.solved(number, None, self.now))
                case Answered(request_id):
                    assert request_id not in node.answers, "a request was answered twice"
                    node.answers[request_id] = effect
                case _:
                    pass

    def _send_all(self, node: Node, message: object) -> None:
        for other in self._alive():
            if other is not node:
                self._send(node.id, other.id, message)

    def _send(self, sender: str, to: str, message: object) -> None:
        if to in self.nodes and self._joined(sender, to):
            self._wires.setdefault((sender, to), deque()).append(encode(message))

    def _deliver(self) -> None:
        """Everything under way arrives: in order on each wire, the wires in any order."""
        while waiting := [pair for pair, wire in self._wires.items() if wire]:
            sender, to = pair = self.chance.choice(waiting)
            data = self._wires[pair].popleft()
            if self._joined(sender, to) and to not in self.dead:
                receiver = self.nodes[to]
                self._do(receiver, receiver.plane.receive(sender, decode(data), self.now))


def loaded(count: int = 3, seed: int = 0, **wishes: object) -> Cluster:
    """A mesh of `count` nodes with one model over all of them."""
    cluster = Cluster(count, seed)
    cluster.run(SETTLED_S)
    request = cluster.load(count, **{"min_nodes": count} | wishes)
    cluster.run(3)
    answer = cluster.answer(count, request)
    assert answer is not None
    assert answer.code == ""
    return cluster


def nodes_of(cluster: Cluster) -> list[str]:
    """Nodes of the only instance, in ring order."""
    return [stage.node for stage in cluster.only().stages]
