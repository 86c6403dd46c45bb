"""A host of the simulator: the real doors of gossip and control, and all machines behind them, on virtual time.

Only what is below the doors is made up: clocks, links, disk, signatures, model files, and the stages' engines.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from peerinfer.control.effects import Answered
from peerinfer.control.service import ControlService
from peerinfer.control.surroundings import Surroundings
from peerinfer.errors import HomeError
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import EngineSpeed, HeldModel, LinkFigure, Snapshot
from peerinfer.net.frames import Epoch
from tests.sim.network import Facts, Network

if TYPE_CHECKING:
    from tests.sim.ghost import Ghost

from tests.sim.ground import (
    GB,
    MESH,
    MODELS,
    TICK_S,
    Crashed,
    Disk,
    Frame,
    Incarnation,
    Keeper,
    Promises,
    Removal,
    Signer,
    Wanted,
    Wires,
)


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
    told: dict[str, Any] = field(default_factory=dict)
    """What it tells of itself besides, by the fields of a snapshot."""
    layer_us: float = 0.0
    """What a layer takes on it; 0 where it was not measured."""
    rtt_us: dict[str, float] = field(default_factory=dict)
    """Of its links that were measured, by node."""
    fails_next: bool = False
    """Whether the next stage that it loads fails."""
    noise: float = 0.0
    """Share by which each of its measurements is off."""
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
        if self.removed and self.chance.random() < 0.1:  # the real links lose none of it while they stand
            for peer in self.facts:
                self.network.send(self.id, peer, Removal(frozenset(self.removed)))
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
        measured = {"speeds": self._speeds(), "links": self._links()}
        return replace(told, **{"on_battery": self.on_battery, "stages": self.keeper.held(), **measured, **self.told})

    def _speeds(self) -> tuple[EngineSpeed, ...]:
        if not self.layer_us:
            return ()
        rate = MODELS[0].layer_bytes / (self.layer_us * self._off()) * 1e6
        return (EngineSpeed("llama.cpp", "cpu", "", "", rate, 0.0, samples=1),)

    def _links(self) -> tuple[LinkFigure, ...]:
        return tuple(LinkFigure(peer, rtt * self._off(), 100e6) for peer, rtt in sorted(self.rtt_us.items()))

    def _off(self) -> float:
        return self.chance.uniform(1 - self.noise, 1 + self.noise) if self.noise else 1.0

    async def finds_nothing(self, _: str) -> HeldModel | None:
        return None

    def alive(self, what: Callable[[], None]) -> None:
        """Does it now, or when the host is awake again; not in another life."""
        life = self.life
        if self.is_awake:
            self.does(what)
        elif not self.is_dead:
            self.network.after(0.5, lambda: self.alive(what) if self.life == life else None)
