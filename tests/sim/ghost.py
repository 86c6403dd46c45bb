"""What must hold, watched from outside: the ghost sees every host and message, and no host sees the ghost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from peerinfer.control.asker import ASKED_MAX
from peerinfer.control.effects import Answered
from peerinfer.control.intents import INTENTS_MAX, Stamp, _read
from peerinfer.control.messages import DropStage, LoadStage, RequestReply
from peerinfer.control.placements import ADOPTED_MAX, INSTANCES_MAX
from peerinfer.control.state import InstanceState
from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.election.machine import LEASE_S
from peerinfer.election.messages import Grant, LeaderHeartbeat, Release, VoteRequest
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.messages import SnapshotSealed
from peerinfer.net.frames import Epoch

if TYPE_CHECKING:
    from tests.sim.ground import Frame
    from tests.sim.host import Host

QUEUE_MAX: Final = 4096
"""Effects that may wait behind a save that fails."""


class Violation(Exception):
    """An invariant broke. `name` is the invariant's."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


@dataclass
class Lease:
    """What a host granted to another, by its own clock."""

    ballot: Ballot
    until: float


@dataclass
class Ghost:
    """Everything that is remembered over lives."""

    obeyed: dict[str, tuple[Ballot, int]] = field(default_factory=dict)
    issued: dict[Ballot, tuple[str, int]] = field(default_factory=dict)
    """Each ballot that was ever used, with the host and life that issued it."""
    released: set[Ballot] = field(default_factory=set)
    incarnations: dict[str, int] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    granted: dict[tuple[str, Ballot], int] = field(default_factory=dict)
    """The life in which a host granted a ballot."""
    marks: dict[tuple[str, int], dict[str, tuple[int, int]]] = field(default_factory=dict)
    given_up: set[tuple[str, Epoch]] = field(default_factory=set)
    """Instances that some leader told to be draining, or dropped when one of their nodes was lost."""
    removed: set[str] = field(default_factory=set)
    asked: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    """Open requests: who asked, in which life, for which model's digest."""
    acknowledged: dict[str, tuple[Stamp, bool, str]] = field(default_factory=dict)
    """By digest: the newest stamp that anybody was told of, whether it is wanted, and who was told."""
    obedience: list[str] = field(default_factory=list)
    """A line for each command obeyed, for stories."""
    commands: int = 0
    frames: int = 0

    # What hosts say

    def sends(self, host: Host, to: str, message: Any) -> None:
        """A host is about to send."""
        kind = type(message)
        if kind is Grant:
            self._grants(host, to, message.ballot)
        elif kind is LeaderHeartbeat or kind is VoteRequest:
            ballot = message.ballot
            if host.disk.ballot < ballot:
                raise Violation("a ballot used before it is on disk", f"{host.id} {ballot}")
            if self.issued.setdefault(ballot, (host.id, host.life)) != (host.id, host.life):
                raise Violation("a ballot issued twice", f"{host.id} {ballot}")
            if ballot in self.released:
                raise Violation("a ballot used after its release", f"{host.id} {ballot}")
        elif kind is SnapshotSealed and message.envelope == host.gossip._machine._own:
            if host.gossip._machine.incarnation > host.disk.incarnation:
                raise Violation("an incarnation told before it is on disk", host.id)
        elif kind is DropStage:
            self._drops(host, message)
        elif kind is Release:
            self.released.add(message.ballot)
        elif kind is RequestReply and message.intent:
            told, stored = _stamp(message.intent), [_stamp(one) for one in host.disk.intents]
            if not any(digest == told[0] and stamp >= told[1] for digest, stamp, _ in stored):
                raise Violation("an intent acknowledged before it is on disk", f"{host.id} {told}")

    def _grants(self, host: Host, to: str, ballot: Ballot) -> None:
        if host.disk.ballot < ballot:
            raise Violation("a reply before its promise is on disk", f"{host.id} {ballot}")
        election = host.plane.election
        if election.leader == host.id and to != host.id:
            raise Violation("a leader grants", f"{host.id} {ballot}")
        if self.granted.setdefault((host.id, ballot), host.life) != host.life:
            raise Violation("a promise given again in another life", f"{host.id} {ballot}")
        until = min(host.monotonic() + LEASE_S, election._lease_until)
        self.leases[host.id] = Lease(ballot, until)

    def _drops(self, host: Host, command: DropStage) -> None:
        """What is wanted, whole, in sight and not draining is dropped by nobody."""
        key = (command.instance, command.epoch)
        held = next((one.keeper.stages[key] for one in host.network.hosts.values() if one.has_ready(key)), None)
        if held is None or key in self.given_up:
            return
        instance = held.assignment.instance
        alive = {member.node for member in host.plane.members if member.state is Liveness.ALIVE}
        intent = host.plane.intents.find(instance.digest)
        is_wanted = intent is not None and intent.is_wanted and intent.id == command.instance
        is_whole = all(
            stage.node in alive and host.network.hosts[stage.node].has_ready(key) for stage in instance.stages
        )
        if is_wanted and is_whole:
            raise Violation("a whole instance dropped", f"{host.id} {instance}")
        self.given_up.add(key)

    def promised(self, host: Host, ballot: Ballot) -> None:
        """A host saved a promise."""
        lease = self.leases.get(host.id)
        if lease is not None and lease.ballot.node != ballot.node and host.monotonic() < lease.until:
            raise Violation("a live lease broken", f"{host.id} {lease} {ballot}")
        was_known = ballot.node in host.removed and host.id not in host.removed
        if was_known and host.control._stuck_since is None:  # else it was granted before, and is only saved now
            raise Violation("a removed node's ballot granted", f"{host.id} {ballot}")

    def woke(self, host: Host) -> None:
        """A host knows that it slept: it believes in no lease any more."""
        self.leases.pop(host.id, None)

    # What hosts hear

    def takes(self, host: Host, sender: str, message: Any) -> None:
        """A message reached a host."""
        lease = self.leases.get(host.id)
        if type(message) is Release and lease and (sender, message.ballot) == (lease.ballot.node, lease.ballot):
            del self.leases[host.id]

    def took(self, host: Host, sender: str, message: Any) -> None:
        """A host has dealt with a message, after what had waited for its disk was said."""
        self.takes(host, sender, message)
        if type(message) not in (LoadStage, DropStage):
            return
        mark = host.plane.obeyed
        before = self.obeyed.get(host.id, (NO_BALLOT, 0))
        if mark in ((NO_BALLOT, 0), before):
            return
        if mark < before:
            raise Violation("obeyed a ballot or version that is older", f"{host.id} {before} {mark}")
        if sender != mark[0].node:
            raise Violation("obeyed who is not the leader", f"{host.id} {sender} {mark}")
        self.obeyed[host.id] = mark
        self.commands += 1
        verb = "load" if type(message) is LoadStage else "drop"
        self.obedience.append(f"{host.id[-2:]} obeyed {verb} of {mark[0].node[-2:]} ({mark[0].counter}, {mark[1]})")

    def frame(self, host: Host, sender: str, frame: Frame) -> None:
        """A frame reached a host: it is executed exactly as `pipeline.service` would."""
        held = host.keeper.stages.get((frame.instance, frame.epoch))
        if held is None or held.state != "ready" or held.assignment.stage != frame.stage:
            return
        stages = held.assignment.instance.stages
        if sender != stages[frame.stage - 1].node:
            return
        self.frames += 1
        if frame.truth != (stages, held.assignment.instance.digest):
            raise Violation("a frame executed by a stage of another placement", f"{host.id} {frame}")

    def answered(self, host: Host, answer: Answered) -> None:
        """A request of a host ended."""
        _, _, digest = self.asked.pop(answer.request_id, ("", 0, ""))
        intent = host.plane.intents.find(digest)
        if answer.code or intent is None:
            return
        newest = self.acknowledged.get(digest)
        if newest is None or intent.stamp > newest[0]:
            self.acknowledged[digest] = (intent.stamp, intent.is_wanted, host.id)

    # What hosts are

    def starts(self, host: Host) -> None:
        """A host starts, in a new life."""
        value = host.incarnation.value
        if value <= self.incarnations.get(host.id, 0):
            raise Violation("an incarnation used twice", f"{host.id} {value}")
        self.incarnations[host.id] = value
        self.leases.pop(host.id, None)
        self.asked = {request: one for request, one in self.asked.items() if one[0] != host.id}

    def looks(self, host: Host) -> None:
        """After a tick of a host."""
        election = host.plane.election
        reign = election._reign
        if (election.leader == host.id) != (reign is not None) or (reign and reign.ballot != election.granted):
            raise Violation("a leader that does not obey itself", f"{host.id} {election.granted}")
        self.incarnations[host.id] = max(self.incarnations[host.id], host.disk.incarnation)
        self.given_up |= {(one.id, one.epoch) for one in host.plane.instances if one.state is InstanceState.DRAINING}
        self._limits(host)
        self._snapshots(host)
        if host.removed and host.id not in host.removed and not host.is_stopping:
            self._removals(host)

    def _limits(self, host: Host) -> None:
        plane = host.plane
        sizes = {
            "requests": (len(plane._asker._asked), ASKED_MAX),
            "intents": (len(plane.intents), INTENTS_MAX),
            "placements": (len(plane._leader._all._placed), ADOPTED_MAX + INSTANCES_MAX),
            "effects": (len(host.control._queue), QUEUE_MAX),
            "snapshots": (len(host.gossip.table.entries), len(host.network.hosts)),
        }
        for name, (size, limit) in sizes.items():
            if size > limit:
                raise Violation("a queue over its limit", f"{host.id} {name} {size}")

    def _snapshots(self, host: Host) -> None:
        seen = self.marks.setdefault((host.id, host.life), {})
        for node, mark in host.gossip.table._seen.items():
            entry = host.gossip.table.entry(node)
            if mark < seen.get(node, mark) or (entry is not None and entry.envelope.mark != mark):
                raise Violation("an older snapshot accepted", f"{host.id} {node} {mark}")
            seen[node] = mark

    def _removals(self, host: Host) -> None:
        for node in host.removed:
            if host.gossip.table.entry(node) is not None:
                raise Violation("a removed node's snapshot kept", f"{host.id} {node}")
        for kept in host.plane.intents._kept.values():
            if kept.signer in host.removed and host.control._stuck_since is None:
                raise Violation("a removed node's statement kept", f"{host.id} {kept.intent}")

    # What is left in the end

    def lost_intents(self, hosts: list[Host]) -> str | None:
        """What was acknowledged and nobody knows any more; those whom only removed nodes were told of may be."""
        for digest, (stamp, is_wanted, told) in self.acknowledged.items():
            if {stamp.node, told} <= self.removed:
                continue
            for host in hosts:
                intent = host.plane.intents.find(digest)
                if intent is None or intent.stamp < stamp or (intent.stamp == stamp and intent.is_wanted != is_wanted):
                    return f"{host.id} {digest[:1]} acknowledged {stamp} {is_wanted}, known {intent}"
        return None


def _stamp(statement: bytes) -> tuple[str, Stamp, bool]:
    read = _read(statement)
    assert read is not None
    return read.intent.digest, read.intent.stamp, read.intent.is_wanted
