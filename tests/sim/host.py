"""A host of the simulator: the real doors of gossip and control, and all machines behind them, on virtual time.

Only what is below the doors is made up: clocks, links, disk, signatures, model files, and the stages' engines.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from peerinfer.control.effects import Answered
from peerinfer.control.service import ControlService, Surroundings
from peerinfer.control.worker import Report, StageAssignment
from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.errors import DiskFull, HomeError, LinkDown
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import HeldModel, HeldStage, Snapshot
from peerinfer.net.frames import Epoch
from tests.sim.network import Facts, Network

if TYPE_CHECKING:
    from tests.sim.ghost import Ghost

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
            held.state = "ready"
            held.report("ready", "", 1.0)


@dataclass
class Answers:
    """Stands in for `control.requests.Requests`: the ghost hears every answer."""

    host: Host

    def answered(self, answer: Answered) -> None:
        self.host.ghost.answered(self.host, answer)

    def close(self) -> None: ...


@dataclass
class Host:
    """One machine: its disk lives on, everything else is made anew at each start."""

    id: str
    network: Network
    ghost: Ghost
    chance: random.Random
    rate: float
    """How fast its clock runs."""
    disk: Disk = field(default_factory=Disk)
    removed: set[str] = field(default_factory=set)
    """Whose removal it knows; on disk too."""
    facts: dict[str, Any] = field(default_factory=dict)
    inbox: list[tuple[str, Any]] = field(default_factory=list)
    is_dead: bool = True
    is_awake: bool = False
    is_stopping: bool = False
    on_battery: bool = False
    life: int = 0
    dies_at_save: str = ""
    """`before` or `after`: where in its next save it dies; empty if it does not."""

    def __post_init__(self) -> None:
        self.disk.at_save = self._at_save

    def _at_save(self, moment: str) -> None:
        if self.dies_at_save == moment:
            self.dies_at_save = ""
            raise Crashed

    def does(self, what: Callable[[], None]) -> None:
        """Does something that may end in a crash."""
        try:
            what()
        except Crashed:
            self.crash()
        except HomeError:
            pass  # the incarnation cannot be saved: logged by the real doors, and tried again

    # Clocks

    def monotonic(self) -> float:
        """Stands still in sleep."""
        return self.boottime() - self._slept_s

    def boottime(self) -> float:
        return 100.0 + (self.network.now - self._started) * self.rate

    # Life

    def start(self) -> None:
        """Starts; if the disk does not let it, it is tried again, as a service would be."""
        self.life += 1
        self.is_stopping = False
        try:
            self._start()
        except (Crashed, HomeError):
            self.network.after(1.0, lambda: self.start() if self.is_dead else None)
        else:
            self.is_dead, self.is_awake = False, True

    def _start(self) -> None:
        self._started, self._slept_s = self.network.now, 0.0
        self.facts, self.inbox = {}, []
        self.keeper = Keeper(self)
        self.wires = Wires(self)
        signer = Signer(self)
        self.incarnation = Incarnation(self.disk)
        self.ghost.starts(self)
        self.gossip = GossipService(
            signer,
            signer.verify,
            self.incarnation,
            self.wires,
            self.portrait,
            members=self.roster,
            clock=self.monotonic,
            chance=self.chance,
        )
        around = Surroundings(
            mesh_id=MESH,
            signer=signer,
            roster=self.roster,
            portrait=self.portrait,
            find=self.finds_nothing,
            clock=self.monotonic,
            boottime=self.boottime,
            promises=Promises(self),
            wanted=Wanted(self.disk),
            woke=lambda _: self.ghost.woke(self),
        )
        self.control = ControlService(
            self.id, self.gossip, wires=self.wires, keeper=self.keeper, around=around, chance=self.chance
        )
        self.control.requests = Answers(self)  # pyright: ignore[reportAttributeAccessIssue]
        self.plane = self.control._plane
        life = self.life
        self.network.after(self.chance.uniform(0, TICK_S), lambda: self.tick(life))

    def crash(self) -> None:
        """Everything in memory is gone; the peers notice at once."""
        self.is_dead, self.is_awake = True, False
        self.keeper.stages.clear()
        self.network.cut(self.id)
        for other in self.network.hosts.values():
            other.unlink(self.id)

    def stop(self) -> None:
        """SIGTERM."""
        self.control.close()
        self.is_stopping = True
        life = self.life
        self.network.after(0.1, lambda: self.crash() if self.life == life and not self.is_dead else None)

    def pause(self) -> float:
        """Nothing runs from now on; gives the moment."""
        self.is_awake = False
        return self.network.now

    def resume(self, since: float, *, slept: bool, keeps_inbox: bool) -> None:
        """Goes on; what came meanwhile is there all at once, or its connections broke."""
        if self.is_dead:
            return
        self.is_awake = True
        if slept:
            self._slept_s += (self.network.now - since) * self.rate
        waiting, self.inbox = self.inbox, []
        for sender, message in waiting if keeps_inbox else []:
            self.take(sender, message)

    # What happens to it

    def tick(self, life: int) -> None:
        if self.life != life or self.is_dead:
            return
        if self.is_awake:
            self.does(self._tick)
        self.network.after(TICK_S / self.rate, lambda: self.tick(life))

    def _tick(self) -> None:
        self.gossip.tick()
        self.control.tick()
        self.keeper.step()
        self.ghost.looks(self)

    def take(self, sender: str, message: Any) -> None:
        """A message comes over a link: a peer that is removed has none."""
        if self.is_dead or sender in self.removed:
            return
        if isinstance(message, Removal):
            self.learn_removals(message.nodes)
        elif isinstance(message, Frame):
            self.ghost.frame(self, sender, message)
        else:
            self.does(lambda: self._take(sender, message))

    def _take(self, sender: str, message: Any) -> None:
        self.ghost.takes(self, sender, message)
        self.wires.take(sender, message)
        self.ghost.took(self, sender, message)

    def peer_up(self, node: str) -> None:
        if self.is_awake and node in self.facts:
            if self.removed:
                self.network.send(self.id, node, Removal(frozenset(self.removed)))
            self.does(lambda: self.wires.peer_up(node))

    def link(self, other: Host) -> None:
        self.facts[other.id] = Facts(other.incarnation.value, self.monotonic())

    def unlink(self, node: str) -> None:
        self.facts.pop(node, None)

    def has_ready(self, key: tuple[str, Epoch]) -> bool:
        """Whether it really holds a ready stage of this instance and epoch."""
        held = None if self.is_dead else self.keeper.stages.get(key)
        return held is not None and held.state == "ready"

    def learn_removals(self, nodes: frozenset[str]) -> None:
        if nodes <= self.removed:
            return
        self.removed |= nodes
        self.ghost.removed |= nodes
        for peer in list(self.facts):
            self.network.send(self.id, peer, Removal(frozenset(self.removed)))

    # What its doors are told

    def roster(self) -> dict[str, str]:
        return {node: node[-2:] for node in self.network.hosts if node not in self.removed}

    def portrait(self) -> Snapshot:
        told = Snapshot(self.id[-2:], "1", 16 * GB, 16 * GB, engines=("llama.cpp",), models=MODELS)
        return replace(told, on_battery=self.on_battery, stages=self.keeper.held())

    async def finds_nothing(self, _: str) -> HeldModel | None:
        return None

    def alive(self, what: Callable[[], None]) -> None:
        """Does it now, or when the host is awake again; not in another life."""
        life = self.life
        if self.is_awake:
            self.does(what)
        elif not self.is_dead:
            self.network.after(0.5, lambda: self.alive(what) if self.life == life else None)
