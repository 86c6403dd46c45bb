"""What is made up below a simulated host's doors: disk, signatures, links, and the engines of its stages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peerinfer.control.worker import Report, StageAssignment
from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.errors import DiskFull, LinkDown
from peerinfer.gossip.snapshot import HeldModel, HeldStage
from peerinfer.net.frames import Epoch

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from tests.sim.host import Host

MESH: Final = "aa" * 16
TICK_S: Final = 0.25
GB: Final = 10**9
MODELS: Final = tuple(
    HeldModel(
        name=f"model-{letter}",
        digest=letter * 64,
        size_bytes=4 * GB,
        layers=32,
        layer_bytes=GB // 8,
        embedding_bytes=GB // 10,
        head_bytes=GB // 10,
        kv_bytes=1000,
        context_length=4096,
        legal_cuts=tuple(range(1, 32)),
    )
    for letter in "de"
)


@dataclass(frozen=True, slots=True)
class Removal:
    """Roster statements, as a set of removed nodes that only grows."""

    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Frame:
    """A step of the data plane: only what fences it, and what it really is."""

    instance: str
    epoch: Epoch
    stage: int
    truth: object


@dataclass
class Disk:
    """What survives a crash. A save is on disk when it returns; mutants change that."""

    is_full: bool = False
    at_save: Callable[[str], None] = lambda _: None
    """Called `before` and `after` each save; it may raise `Crashed`."""
    ballot: Ballot = NO_BALLOT
    intents: tuple[bytes, ...] = ()
    incarnation: int = 0

    def save_ballot(self, ballot: Ballot) -> None:
        self._save("ballot", ballot)

    def save_intents(self, statements: tuple[bytes, ...]) -> None:
        self._save("intents", statements)

    def save_incarnation(self, value: int) -> None:
        self._save("incarnation", value)

    def _save(self, name: str, value: object) -> None:
        if self.is_full:
            raise DiskFull("The disk is full; free some space.")
        self.at_save("before")
        setattr(self, name, value)
        self.at_save("after")


class Crashed(BaseException):
    """The host died in the middle of what it was doing."""


class Signer:
    """Signatures that only their node can make, and that are cheap; members are known by the host."""

    def __init__(self, host: Host) -> None:
        self.node_id = host.id
        self.mesh_id = MESH
        self._host = host

    def sign(self, data: bytes) -> bytes:
        return _seal(self.node_id, data)

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        return self.is_member(node) and signature == _seal(node, data)

    def is_member(self, node: str) -> bool:
        return node not in self._host.removed


def _seal(node: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=node.encode(), digest_size=64).digest()


class Promises:
    """`election.storage.PromiseFile` on the host's disk."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._disk = host.disk
        self.value = host.disk.ballot

    def save(self, ballot: Ballot) -> None:
        self._disk.save_ballot(ballot)
        self.host.ghost.promised(self.host, ballot)


class Wanted:
    """`control.storage.IntentFile` on the host's disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def load(self) -> tuple[bytes, ...]:
        return self._disk.intents

    def save(self, statements: tuple[bytes, ...]) -> None:
        self._disk.save_intents(statements)


class Incarnation:
    """`gossip.storage.Incarnation` on the host's disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.value = disk.incarnation + 1
        disk.save_incarnation(self.value)

    def save(self, value: int) -> None:
        self._disk.save_incarnation(value)
        self.value = value


class Wires:
    """`net.switchboard.Switchboard` over the simulated network."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handlers: dict[type[Any], list[Callable[[str, Any], None]]] = {}
        self._peer_handlers: list[Callable[[str, bool], None]] = []

    def send(self, to: str, message: Any) -> None:
        self._host.ghost.sends(self._host, to, message)
        if not self._host.network.send(self._host.id, to, message):
            raise LinkDown("There is no link.")

    def on(self, kind: type[Any], handler: Callable[[str, Any], None]) -> None:
        self._handlers.setdefault(kind, []).append(handler)

    def on_peer(self, handler: Callable[[str, bool], None]) -> None:
        self._peer_handlers.append(handler)

    def peers(self) -> dict[str, Any]:
        return self._host.facts

    def take(self, sender: str, message: Any) -> None:
        for handler in self._handlers.get(type(message), ()):
            handler(sender, message)

    def peer_up(self, node: str) -> None:
        for handler in self._peer_handlers:
            handler(node, True)


@dataclass(slots=True)
class HeldHere:
    """A stage on a host."""

    assignment: StageAssignment
    report: Report
    state: str = "loading"


class Keeper:
    """The pipeline: stages take their time to load, may fail, and may die."""

    def __init__(self, host: Host) -> None:
        self.stages: dict[tuple[str, Epoch], HeldHere] = {}
        self._host = host

    def start(self, assignment: StageAssignment, report: Report) -> None:
        key = (assignment.instance.id, assignment.instance.epoch)
        held = self.stages[key] = HeldHere(assignment, report)
        host = self._host
        host.network.after(host.chance.uniform(0.2, 4.0), lambda: host.alive(lambda: self._loaded(key, held)))

    def drop(self, instance_id: str, epoch: Epoch) -> None:
        self.stages.pop((instance_id, epoch), None)

    def held(self) -> tuple[HeldStage, ...]:
        return tuple(HeldStage(key[0], key[1], one.assignment.stage, one.state) for key, one in self.stages.items())

    def step(self) -> None:
        """Each stage but the last sends a frame on, as if an answer ran without end."""
        for (instance_id, epoch), held in self.stages.items():
            instance, number = held.assignment.instance, held.assignment.stage
            if held.state == "ready" and number + 1 < len(instance.stages):
                frame = Frame(instance_id, epoch, number + 1, (instance.stages, instance.digest))
                self._host.network.send(self._host.id, instance.stages[number + 1].node, frame)

    def die(self, key: tuple[str, Epoch]) -> None:
        """The engine of a stage dies; what it held is gone."""
        held = self.stages[key]
        held.state = "failed"
        held.report("failed", "The engine ended.", 0.0)

    def _loaded(self, key: tuple[str, Epoch], held: HeldHere) -> None:
        if self.stages.get(key) is held and held.state == "loading":
            if self._host.fails_next:
                self._host.fails_next = False
                self.die(key)
                return
            held.state = "ready"
            held.report("ready", "", 1.0)
