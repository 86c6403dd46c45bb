"""One node's control plane: election, leader's duties, worker's obedience, intents and own requests together. Pure.

The door (`service.py`) hands in messages, members and time, and carries out the effects in order. The same plane
runs in the simulator of the tests.
"""

from __future__ import annotations

import random

from peerinfer.control.asker import Asker
from peerinfer.control.effects import (
    Broadcast,
    Effect,
    Effects,
    InstanceBecameReady,
    InstancesChanged,
    SaveIntents,
)
from peerinfer.control.intent_exchange import IntentExchange
from peerinfer.control.intents import IntentBook
from peerinfer.control.leader import Leader
from peerinfer.control.members import Members
from peerinfer.control.messages import (
    DropStage,
    Instances,
    Intents,
    IntentsDigest,
    LoadRequest,
    LoadStage,
    RequestReply,
    StageReport,
    StagesHeld,
    UnloadRequest,
)
from peerinfer.control.placed import Key
from peerinfer.control.state import Instance, InstanceState
from peerinfer.control.worker import Worker
from peerinfer.election import messages as election_messages
from peerinfer.election.ballot import Ballot
from peerinfer.election.effects import LeaderChanged, SaveBallot
from peerinfer.election.machine import Election
from peerinfer.gossip.liveness import Liveness
from peerinfer.placement.plan import Plan

MESSAGES: tuple[type[object], ...] = (
    *election_messages.MESSAGES,
    LoadRequest,
    UnloadRequest,
    RequestReply,
    LoadStage,
    DropStage,
    StageReport,
    StagesHeld,
    Instances,
    Intents,
    IntentsDigest,
)
"""What a plane takes from its peers."""


class ControlPlane:
    """All control machines of node `node`."""

    def __init__(self, node: str, election: Election, intents: IntentBook, chance: random.Random) -> None:
        self.election = election
        self.intents = intents
        self.members: Members = ()
        self.known: Instances | None = None
        """The newest list of instances that a leader told."""
        self._node = node
        self._exchange = IntentExchange(node, intents, chance)
        self._leader = Leader(node, intents)
        self._worker = Worker(node)
        self._asker = Asker()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances of the mesh as this node knows them."""
        return self.known.instances if self.known else ()

    @property
    def obeyed(self) -> tuple[Ballot, int]:
        """Ballot and version of the last command that this node obeyed as a worker."""
        return self._worker.obeyed

    def see(self, members: Members, now: float, *, reach: int, mains: bool = True) -> Effects:
        """The members as they are now, and how this machine would do as a leader."""
        self.members = members
        seen = self.election.see(self._alive(), now, reach=reach, mains=mains)
        return self._settle((*seen, *self._leader.see(members, self.election.workers(now), now)), now)

    def tick(self, now: float) -> Effects:
        """Time goes on: call it every quarter of a second or so."""
        elected = self._settle(self.election.tick(now), now)
        duties = (*self._leader.tick(now), *self._worker.tick(now), *self._asker.tick(now))
        return (*elected, *self._settle((*duties, *self._exchange.tick(self._alive(), now)), now))

    def peer_up(self, node: str, now: float) -> Effects:
        """There is a new link with `node`; what an older one had under way may be lost."""
        effects = (*self._exchange.compare(node), *self._leader.peer_up(node))
        if node == self.election.leader:
            effects += (*self._worker.report_all(), *self._asker.ask_again(now))
        return self._settle(effects, now)

    def ask(self, request: LoadRequest | UnloadRequest, now: float) -> Effects:
        """A request of this node; `Answered` follows, at once or later."""
        return self._settle(self._asker.ask(request, now), now)

    def reported(self, instance: Instance, state: str, reason: str, progress: float) -> Effects:
        """The keeper tells how its stage of `instance` is."""
        return self._worker.reported(instance.id, instance.epoch, state, reason, progress)

    def solved(self, number: int, plan: Plan | None, now: float) -> Effects:
        """The solver answered a question of the leader here; None if it has no plan."""
        return self._settle(self._leader.solved(number, plan, now), now)

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """A message of one of the classes in `MESSAGES`, from a member (this node included)."""
        return self._settle(self._routed(sender, message, now), now)

    def release(self, now: float) -> Effects:
        """This node stops: it leads no more, and whoever obeyed it is free at once."""
        return self._settle(self.election.release(now), now)

    def wake(self, now: float) -> Effects:
        """This node slept or stood still: it leads no more, and listens before it believes or asks anything."""
        return self._settle(self.election.wake(now), now)

    def unsaved(self) -> Effects:
        """All that must be on disk: for a step that failed in the middle, whose own effects are lost."""
        return (SaveBallot(self.election.promise), SaveIntents(self.intents.statements))

    def _alive(self) -> list[str]:
        return [member.node for member in self.members if member.state is Liveness.ALIVE]

    def _routed(self, sender: str, message: object, now: float) -> Effects:
        match message:
            case LoadStage() | DropStage():
                return self._worker.receive(sender, message, self.election.granted)
            case RequestReply():
                learnt = self._exchange.learn((message.intent,)) if message.intent else ()
                return (*learnt, *self._asker.receive(sender, message, now))
            case Intents() | IntentsDigest():
                return self._exchange.receive(sender, message, now)
            case Instances():
                return self._told(sender, message, now)
            case LoadRequest() | UnloadRequest() | StageReport() | StagesHeld():
                return self._leader.receive(sender, message, now)
            case _:
                return self.election.receive(sender, message, now)

    def _settle(self, effects: Effects, now: float) -> Effects:
        """The effects in order, with what follows on this node from a change of leader and from an own list."""
        settled: list[Effect] = []
        for effect in effects:
            settled.append(effect)
            if isinstance(effect, LeaderChanged):
                settled += self._settle(self._led(effect, now), now)
            elif isinstance(effect, Broadcast) and isinstance(effect.message, Instances):
                settled += self._settle((*self._learn(effect.message, now), *self._asked(effect.message)), now)
        return tuple(settled)

    def _led(self, change: LeaderChanged, now: float) -> Effects:
        if change.leader == self._node and change.ballot is not None:
            leading = self._leader.lead(change.ballot, now)
        else:
            leading = ()
            self._leader.resign()
        return (
            *leading,
            *self._worker.follow(change.leader, change.ballot),
            *self._asker.leader_changed(change.leader, now),
        )

    def _told(self, sender: str, told: Instances, now: float) -> Effects:
        if sender != self.election.leader or told.ballot != self.election.ballot:
            return ()
        return (*self._asked(told), *self._learn(told, now))

    def _asked(self, told: Instances) -> Effects:
        return self._worker.report_all() if self._node in told.asking else ()

    def _learn(self, told: Instances, now: float) -> Effects:
        if self.known is not None and (told.ballot, told.version) <= (self.known.ballot, self.known.version):
            return ()
        before = {_placement(instance): instance.state for instance in self.instances}
        self.known = told
        ready = [one for one in told.instances if one.state is InstanceState.READY]
        fresh = [one for one in ready if before.get(_placement(one)) is not InstanceState.READY]
        news = (InstancesChanged(told.instances), *(InstanceBecameReady(one) for one in fresh))
        return (*news, *self._worker.reconcile(told, now))


def _placement(instance: Instance) -> Key:
    return (instance.id, instance.epoch)
