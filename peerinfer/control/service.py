"""The door of control: wires the plane to links, gossip, disk and stages, and answers this node's questions.

It looks for stalls whenever it looks at the clock, so nothing old is believed after a sleep. If a promise or an intent
cannot be saved, nothing that depends on it is said: the plane stands still, and the save is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from peerinfer.control.chronicle import Chronicle
from peerinfer.control.effects import (
    Answered,
    Broadcast,
    Effect,
    Effects,
    InstanceBecameReady,
    InstancesChanged,
    SaveIntents,
    SolvePlacement,
    StartStage,
    StopStage,
)
from peerinfer.control.intents import IntentBook
from peerinfer.control.members import Members, members_now
from peerinfer.control.messages import DropStage, LoadRequest, LoadStage, UnloadRequest
from peerinfer.control.observer import Observer, first_state
from peerinfer.control.plane import MESSAGES, ControlPlane
from peerinfer.control.requests import Requests
from peerinfer.control.stall import StallDetector
from peerinfer.control.state import ClusterState, Instance
from peerinfer.control.status import status
from peerinfer.control.surroundings import Surroundings, Wires
from peerinfer.control.worker import StageKeeper
from peerinfer.election.ballot import NODE_MAX
from peerinfer.election.effects import LeaderChanged, SaveBallot
from peerinfer.election.machine import LEASE_S, Election
from peerinfer.errors import HomeError, LinkError, PeerinferError, Unavailable
from peerinfer.gossip.messages import Farewell
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import HeldModel, Snapshot, clean
from peerinfer.net.effects import SendTo
from peerinfer.placement.plan import Plan

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""How often time passes for the machines: half of the shortest of their periods."""

Event = LeaderChanged | InstancesChanged | InstanceBecameReady
Listener = Callable[[Event], None]


class ControlService:
    """One node's share in running the mesh. `run` drives it; everything else is called from the event loop.

    `gossip` is run by the node; control reads its table and has it announce what changes here.
    """

    def __init__(
        self,
        node: str,
        gossip: GossipService,
        *,
        wires: Wires,
        keeper: StageKeeper,
        around: Surroundings,
        chance: random.Random,
    ) -> None:
        self.requests = Requests(self, self._find)
        self.chronicle = Chronicle(first_state(node, around.mesh_id, around.portrait()))
        """What this node shows of the mesh, and every change of it."""
        self._observer = Observer(around.nearby, around.measured)
        self._node = node
        self._gossip = gossip
        self._wires = wires
        self._keeper = keeper
        self._around = around
        now = around.clock()
        self._listeners: list[Listener] = []
        self._queue: deque[Effect] = deque()
        self._is_busy = False
        self._stuck_since: float | None = None
        """Since when what is first in the queue is a save that failed (seconds)."""
        self._is_closed = False
        self._stalls = StallDetector(TICK_S, now, around.boottime())
        election = Election(node, around.promises.value, chance, now)
        intents = IntentBook(node, around.mesh_id, around.signer, around.wanted.load())
        self._plane = ControlPlane(node, election, intents, chance)
        gossip.on_snapshot(lambda _node, _snapshot: self._look())
        for kind in MESSAGES:
            wires.on(kind, self._received)
        wires.on(Farewell, lambda _sender, _message: self._look())  # gossip, which was asked before, has it already
        wires.on_peer(self._peer_changed)

    async def run(self) -> None:
        """Lets time pass for the machines until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """Looks who is here, and lets the time since the last tick pass for the machines; then tells what changed."""
        self._look()
        self._drive(self._plane.tick)
        self._observe()

    def close(self) -> None:
        """This node stops: it says so, frees whom it leads, and ends what is still waited for. It obeys nobody more."""
        with contextlib.suppress(HomeError):  # told before; the peers will miss it a little later
            self._gossip.farewell()
        self._drive(self._plane.release)
        self._is_closed = True
        self.requests.close()
        self.chronicle.end()

    # Questions

    @property
    def leader(self) -> str | None:
        """Node id of the leader; None while there is none."""
        return self._plane.election.leader

    @property
    def state(self) -> ClusterState:
        """What this node shows of the mesh now."""
        self._observe()
        return self.chronicle.state

    def members(self) -> Members:
        """All members with their liveness and newest snapshots."""
        return self._plane.members

    def instances(self) -> tuple[Instance, ...]:
        """The instances of the mesh, as the leader told last."""
        return self._plane.instances

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener` for each change of leader and of instances, and when an instance becomes ready."""
        self._listeners.append(listener)

    def ask(self, request: LoadRequest | UnloadRequest) -> None:
        """Sends a request to the leader; `requests` hears the answer."""
        if not self._drive(partial(self._plane.ask, request)):
            reason = "This node cannot write to its disk, or stops, and takes no requests; see its log."
            self.requests.answered(Answered(request.request_id, Unavailable.code, reason, ""))

    def status(self) -> dict[str, Any]:
        """The object of `status --json`."""
        return status(self.state)

    async def _find(self, model: str) -> HeldModel | None:
        own = await self._around.find(model)
        told = self._snapshot_of(self._node)
        if own is not None and (told is None or own not in told.models):
            self._gossip.push()  # so that the leader knows of the file before it is asked for it
        return own

    # What comes in

    def _drive(self, step: Callable[[float], Effects]) -> bool:
        """Lets the plane do a step at this moment; false if it may not, because a save failed.

        After a stall it first forgets what it believed before.
        """
        if self._is_closed:
            return False
        now = self._around.clock()
        self._flush(now)
        if self._stuck_since is not None:
            return False
        missed_s = self._stalls.look(now, self._around.boottime())
        if missed_s:
            log.warning("This node slept or stood still for %.1f s.", missed_s)
            self._carry_out(self._plane.wake(now))
            self._gossip.wake()
            self._around.woke(missed_s)
        try:
            effects = step(now)
        except Exception:
            self._carry_out(self._plane.unsaved())  # what it promised is in memory: it must be on disk, too
            raise
        self._carry_out(effects)
        return True

    def _flush(self, now: float) -> None:
        """Tries once more what waits for the disk. What was to be said long ago is not said any more."""
        if self._stuck_since is not None and now - self._stuck_since > LEASE_S:
            self._queue = deque(each for each in self._queue if not isinstance(each, (SendTo, Broadcast)))
        if self._queue:
            self._carry_out(())

    def _look(self) -> None:
        """Who is here now, and how this machine would do as a leader."""
        own = self._snapshot_of(self._node)
        mains = own is None or own.on_battery is not True

        def see(now: float) -> Effects:
            members = members_now(self._node, self._around.roster(), self._gossip.liveness, self._snapshot_of)
            return self._plane.see(members, now, reach=len(self._gossip.direct()) + 1, mains=mains)

        self._drive(see)

    def _observe(self) -> None:
        """Tells the chronicle what changed since it was told last."""
        members = self._plane.members
        if members:  # none before the first look
            rtt_us = {node: facts.rtt_us for node, facts in self._wires.peers().items()}
            state, now = self.chronicle.state, self._around.clock()
            self.chronicle.record(self._observer.look(state, members, rtt_us, now))

    def _snapshot_of(self, node: str) -> Snapshot | None:
        entry = self._gossip.table.entry(node)
        return entry.snapshot if entry else None

    def _received(self, sender: str, message: object) -> None:
        before = self._plane.obeyed
        self._drive(lambda now: self._plane.receive(sender, message, now))
        if isinstance(message, (LoadStage, DropStage)):
            self._note_command(message, is_obeyed=self._plane.obeyed != before)

    def _note_command(self, command: LoadStage | DropStage, *, is_obeyed: bool) -> None:
        """A line for every command, obeyed or refused: so that it can be shown that nobody obeyed two leaders."""
        mark = (command.ballot, command.version)
        verb = "Obeyed" if is_obeyed else "Refused"
        what = "load" if isinstance(command, LoadStage) else "drop"
        node = clean(mark[0].node, NODE_MAX)
        log.info("%s a %s: ballot %d of %s, version %d.", verb, what, mark[0].counter, node, mark[1])

    def _peer_changed(self, node: str, up: bool) -> None:
        if up:
            self._look()
            self._drive(partial(self._plane.peer_up, node))

    def _reported(self, instance: Instance, state: str, reason: str, progress: float) -> None:
        self._gossip.announce()
        self._carry_out(self._plane.reported(instance, state, reason, progress))  # never to be lost: it is said once

    def _solved(self, number: int, plan: Plan | None) -> None:
        self._drive(partial(self._plane.solved, number, plan))

    # What goes out

    def _carry_out(self, effects: Effects) -> None:
        """Does all effects in order, after those that wait already; none may follow a save that failed."""
        self._queue.extend(effects)
        if self._is_busy:  # an effect led to more: they come after those that were there
            return
        self._is_busy = True
        try:
            while self._queue:
                effect = self._queue.popleft()
                try:
                    self._do(effect)
                except HomeError:
                    self._queue.appendleft(effect)
                    raise
            self._stuck_since = None
        except HomeError as error:
            if self._stuck_since is None:
                log.error("%s Until that works, this node takes no part in running the mesh.", error)
                self._stuck_since = self._around.clock()
        finally:
            self._is_busy = False

    def _do(self, effect: Effect) -> None:
        match effect:
            case SaveBallot(ballot):
                self._around.promises.save(ballot)
            case SaveIntents(statements):
                self._around.wanted.save(statements)
            case SendTo(node, message):
                self._send(node, message)
            case Broadcast(message):
                for peer in self._wires.peers():
                    self._send(peer, message)
            case StartStage(assignment):
                report = partial(self._reported, assignment.instance)
                try:
                    self._keeper.start(assignment, report)
                except PeerinferError as error:
                    report("failed", str(error), 0.0)
                self._gossip.announce()
            case StopStage(instance, epoch):
                self._keeper.drop(instance, epoch)
                self._gossip.announce()
            case SolvePlacement(number, problem):
                self._around.solve(problem, partial(self._solved, number))
            case Answered():
                self.requests.answered(effect)
            case LeaderChanged() | InstancesChanged():
                self.chronicle.record((effect,))
                self._tell(effect)
            case InstanceBecameReady():
                self._tell(effect)

    def _tell(self, event: Event) -> None:
        if isinstance(event, InstancesChanged):
            log.info("Models: %s.", ", ".join(f"{one.model} {one.state.value}" for one in event.instances) or "none")
        else:
            log.info("%s", event)
        for listener in self._listeners:
            listener(event)

    def _send(self, node: str, message: object) -> None:
        with contextlib.suppress(LinkError):  # said again when the link is back, see `peer_up`
            self._wires.send(node, message)
