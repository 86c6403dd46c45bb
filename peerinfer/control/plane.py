"""One node's control plane: election, leader's duties, worker's obedience and own requests, routed together. Pure.

The door (`service.py`) hands in messages, members and time, and carries out the effects in order. The same plane
runs in the simulated cluster of the tests.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from peerinfer.control.asker import Asker
from peerinfer.control.effects import Broadcast, Effect, Effects, InstanceBecameReady, InstancesChanged
from peerinfer.control.leader import Leader
from peerinfer.control.members import Members
from peerinfer.control.messages import (
    Ballot,
    DropStage,
    Instances,
    LoadRequest,
    LoadStage,
    RequestReply,
    StageReport,
    UnloadRequest,
)
from peerinfer.control.state import Instance, InstanceState
from peerinfer.control.worker import Worker
from peerinfer.election.effects import LeaderChanged, SendTo
from peerinfer.election.messages import LeaderHeartbeat, StaleBallot
from peerinfer.net.frames import Epoch

ElectionEffects = tuple[SendTo | LeaderChanged, ...]

MESSAGES: tuple[type[object], ...] = (
    LeaderHeartbeat,
    StaleBallot,
    LoadRequest,
    UnloadRequest,
    RequestReply,
    LoadStage,
    DropStage,
    StageReport,
    Instances,
)
"""What a plane takes from its peers."""


class Election(Protocol):
    """Who leads (`election/lowest.py`)."""

    @property
    def leader(self) -> str | None: ...
    @property
    def ballot(self) -> Ballot | None: ...
    def see(self, visible: Collection[str], now: float) -> ElectionEffects: ...
    def tick(self, now: float) -> ElectionEffects: ...
    def receive(self, sender: str, message: object, now: float) -> ElectionEffects: ...


class ControlPlane:
    """All control machines of node `node`."""

    def __init__(self, node: str, election: Election) -> None:
        self.election = election
        self.members: Members = ()
        self.known: Instances | None = None
        """The newest list of instances that a leader told."""
        self._node = node
        self._leader = Leader(node)
        self._worker = Worker(node)
        self._asker = Asker()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances of the mesh as this node knows them."""
        return self.known.instances if self.known else ()

    def see(self, members: Members, now: float) -> Effects:
        """The members as they are now."""
        self.members = members
        visible = [member.node for member in members if member.is_visible]
        lost = self._leader.see(members, now)
        return self._settle((*lost, *self.election.see(visible, now)), now)

    def tick(self, now: float) -> Effects:
        """Time goes on: call it every quarter of a second or so."""
        ticks = (*self.election.tick(now), *self._leader.tick(now), *self._worker.tick(now), *self._asker.tick(now))
        return self._settle(ticks, now)

    def peer_up(self, node: str, now: float) -> Effects:
        """There is a new link with `node`; what an older one had under way may be lost."""
        effects = self._leader.peer_up(node)
        if node == self.election.leader:
            effects += (*self._introduce(node), *self._worker.report_all(), *self._asker.ask_again())
        return self._settle(effects, now)

    def ask(self, request: LoadRequest | UnloadRequest, now: float) -> Effects:
        """A request of this node; `Answered` follows, at once or later."""
        return self._settle(self._asker.ask(request, now), now)

    def reported(self, instance: Instance, state: str, reason: str, progress: float) -> Effects:
        """The keeper tells how its stage of `instance` is."""
        return self._worker.reported(instance.id, instance.epoch, state, reason, progress)

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """A message of one of the classes in `MESSAGES`, from a member (this node included)."""
        return self._settle(self._routed(sender, message, now), now)

    def _routed(self, sender: str, message: object, now: float) -> Effects:
        match message:
            case LeaderHeartbeat() | StaleBallot():
                return self.election.receive(sender, message, now)
            case LoadStage() | DropStage():
                return self._worker.receive(sender, message)
            case RequestReply():
                return self._asker.receive(sender, message, now)
            case Instances() if sender == self.election.leader:
                return self._learn(message, now) if message.ballot == self.election.ballot else ()
            case _:
                return self._leader.receive(sender, message, now)

    def _settle(self, effects: Effects, now: float) -> Effects:
        """The effects in order, with what follows on this node from a change of leader and from an own list."""
        settled: list[Effect] = []
        for effect in effects:
            settled.append(effect)
            if isinstance(effect, LeaderChanged):
                settled += self._settle(self._led(effect, now), now)
            elif isinstance(effect, Broadcast):
                settled += self._settle(self._learn(effect.message, now), now)
        return tuple(settled)

    def _led(self, change: LeaderChanged, now: float) -> Effects:
        following = self._worker.follow(change.leader, change.ballot)
        asking = self._asker.leader_changed(change.leader, now)
        if change.leader == self._node and change.ballot is not None:
            return (*self._leader.lead(change.ballot, self.instances, now), *following, *asking)
        self._leader.resign()
        return (*self._introduce(change.leader), *following, *asking)

    def _introduce(self, leader: str | None) -> Effects:
        """Tells a leader what this node knew under the former one, so that it can adopt what runs."""
        if leader in (None, self._node) or self.known is None or self.known.ballot == self.election.ballot:
            return ()
        return (SendTo(leader, self.known),)

    def _learn(self, told: Instances, now: float) -> Effects:
        if self.known is not None and (told.ballot, told.version) <= (self.known.ballot, self.known.version):
            return ()
        before = {_placement(instance): instance.state for instance in self.instances}
        self.known = told
        ready = [one for one in told.instances if one.state is InstanceState.READY]
        fresh = [one for one in ready if before.get(_placement(one)) is not InstanceState.READY]
        news = (InstancesChanged(told.instances), *(InstanceBecameReady(one) for one in fresh))
        return (*news, *self._worker.reconcile(told, now))


def _placement(instance: Instance) -> tuple[str, Epoch]:
    return (instance.id, instance.epoch)
