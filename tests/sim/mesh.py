"""One run of the simulator: a mesh of hosts through faults and quiet, with every invariant watched."""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass
from typing import Final

from peerinfer.control.state import Instance, InstanceState
from tests.sim.faults import Faults
from tests.sim.ghost import Ghost, Violation
from tests.sim.host import Host
from tests.sim.network import LOOK_S, Network, Weather

FAULTS_S: Final = 120.0
QUIET_S: Final = 60.0
"""Within this time of quiet all must agree."""
STEADY_S: Final = 5.0
"""They have agreed when they did for so long."""
FAULT_EVERY_S: Final = (0.8, 1.5, 3.0, 5.0)
"""Of which each run draws one as the mean time between two faults: from bad days to the end of the world."""
START_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    seed: int
    nodes: int
    faults: int
    commands: int
    frames: int
    heal_s: float | None
    """From the end of the faults until one leader held all for good; None if the run broke before."""
    broken: str = ""
    """Name of the invariant that broke."""
    detail: str = ""


class Mesh:
    """`count` hosts on one network."""

    def __init__(self, count: int, seed: int) -> None:
        self.network = Network(seed, through_codec=seed % 10 == 0)
        self.ghost = Ghost()
        chance = random.Random(f"hosts {seed}")
        self.hosts = [
            Host(
                f"{number:032x}",
                self.network,
                self.ghost,
                random.Random(f"{seed} {number}"),
                chance.uniform(0.99, 1.01),
            )
            for number in range(1, count + 1)
        ]
        self.network.hosts = {host.id: host for host in self.hosts}
        self.leader_since: float | None = None
        self._number = 0
        for host in self.hosts:
            host.start()
        self.network.after(LOOK_S, self.network.look)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def host(self, number: int) -> Host:
        return self.hosts[number - 1]

    def run(self, seconds: float) -> None:
        self.network.run(self.network.now + seconds, self._watch)

    def end_faults(self) -> None:
        """Everybody is on, awake and connected from now on."""
        self.network.weather = Weather()
        self.network.heal(set(self.network.blocked))
        for host in self.hosts:
            host.disk.is_full, host.dies_at_save = False, ""
            if host.is_stopping:
                host.crash()
            if host.is_dead:
                host.start()
            elif not host.is_awake:
                host.resume(self.network.now, slept=False, keeps_inbox=True)

    def members(self) -> list[Host]:
        return [host for host in self.hosts if host.id not in self.ghost.removed]

    def has_one_leader(self) -> bool:
        ballots = {host.plane.election.ballot for host in self.members()}
        return len(ballots) == 1 and None not in ballots

    def disagreement(self) -> str | None:
        """Why not all is as it should be in quiet times; None if it is."""
        members = self.members()
        if not self.has_one_leader():
            return f"leaders {[host.plane.election.ballot for host in members]}"
        if len({host.plane.instances for host in members}) != 1:
            return f"lists {[_shown(host.plane.instances) for host in members]}"
        if len({host.plane.intents.fingerprint for host in members}) != 1:
            return "intents differ"
        instances = tuple(one for one in members[0].plane.instances if not self._is_tried_again(one))
        held = {(*key, one.assignment.stage, host.id) for host in members for key, one in host.keeper.stages.items()}
        listed = {(one.id, one.epoch, n, stage.node) for one in instances for n, stage in enumerate(one.stages)}
        if held != listed:
            return f"held {held} but listed {listed}"
        wanted = sorted(intent.id for intent in members[0].plane.intents.wanted())
        listed = members[0].plane.instances
        stands = sorted(one.id for one in listed if one.state is InstanceState.READY or self._is_tried_again(one))
        if stands != wanted:
            return f"wanted {wanted} but the list is {_shown(instances)}"
        if self.ghost.asked and any(host_id not in self.ghost.removed for host_id, _, _ in self.ghost.asked.values()):
            return f"requests not answered: {self.ghost.asked}"
        return None

    def _is_tried_again(self, instance: Instance) -> bool:
        """Whether it failed because an engine died again and again, so that its leader waits longer than the run."""
        if instance.state is not InstanceState.FAILED:
            return False
        leader = next(host for host in self.members() if host.id == host.plane.election.leader)
        placed = leader.plane._leader._all.get((instance.id, instance.epoch))
        return placed is not None and placed.losses > 1 and placed.retry_at < math.inf

    def _watch(self) -> None:
        if not self.has_one_leader():
            self.leader_since = None
        elif self.leader_since is None:
            self.leader_since = self.network.now


def run(count: int, seed: int, faults_s: float = FAULTS_S) -> Outcome:
    """Faults for a while, then quiet until all agree."""
    logging.disable(logging.CRITICAL)
    try:
        return _run(count, seed, faults_s)
    finally:
        logging.disable(logging.NOTSET)


def _run(count: int, seed: int, faults_s: float) -> Outcome:
    mesh = Mesh(count, seed)
    faults = Faults(mesh)
    heal_s: float | None = None
    broken = detail = ""
    try:
        mesh.run(START_S)
        end = mesh.network.now + faults_s
        every_s = mesh.network.chance.choice(FAULT_EVERY_S)
        while mesh.network.now < end:
            faults.one()
            mesh.run(mesh.network.chance.expovariate(1 / every_s))
        mesh.end_faults()
        heal_s = _quieten(mesh)
    except Violation as violation:
        broken, detail = violation.name, str(violation)
    except Exception as error:
        broken, detail = f"error {type(error).__name__}", str(error)
    ghost = mesh.ghost
    return Outcome(seed, count, faults.count, ghost.commands, ghost.frames, heal_s, broken, detail)


def _quieten(mesh: Mesh) -> float:
    """Lets quiet time pass until all agree, and keep doing so. Gives how long one leader took."""
    began = mesh.network.now
    agreed_at: float | None = None
    while mesh.network.now - began < QUIET_S:
        mesh.run(0.5)
        reason = mesh.disagreement()
        if reason is not None:
            agreed_at = None
        elif agreed_at is None:
            agreed_at = mesh.network.now
        elif mesh.network.now - agreed_at >= STEADY_S:
            break
    else:
        raise Violation("views do not agree after quiet time", mesh.disagreement() or "flapping")
    lost = mesh.ghost.lost_intents(mesh.members())
    if lost:
        raise Violation("an acknowledged intent lost", lost)
    return max(0.0, (mesh.leader_since or began) - began)


def _shown(instances: tuple[Instance, ...]) -> list[str]:
    return [f"{one.model} {one.id[:4]} {one.epoch.counter}.{one.epoch.n} {one.state} {one.reason}" for one in instances]
