"""The door of control: wires the plane to links, gossip, models and stages, and answers this node's questions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from peerinfer.clock import Clock
from peerinfer.control.catalogue import find_in_mesh
from peerinfer.control.effects import (
    Answered,
    Broadcast,
    Effect,
    Effects,
    InstanceBecameReady,
    InstancesChanged,
    StartStage,
    StopStage,
)
from peerinfer.control.members import Members, members_now
from peerinfer.control.messages import LoadRequest, UnloadRequest
from peerinfer.control.plane import MESSAGES, ControlPlane, Election
from peerinfer.control.state import Instance, InstanceState
from peerinfer.control.status import Measured, View, loading_share, status
from peerinfer.control.worker import StageKeeper
from peerinfer.election.effects import LeaderChanged, SendTo
from peerinfer.errors import BadRequest, LinkError, PeerinferError, Unavailable, UnknownModel, error_from_code
from peerinfer.gossip.service import GossipService, Wires
from peerinfer.gossip.snapshot import HeldModel, Snapshot

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""How often time passes for the machines: half of the shortest of their periods."""
PROGRESS_S: Final = 0.5
"""How often a load tells its progress."""

Event = LeaderChanged | InstancesChanged | InstanceBecameReady
Listener = Callable[[Event], None]
Stages = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the node hands in: the mesh and this machine as other rooms know them."""

    mesh_id: Callable[[], str]
    roster: Callable[[], Mapping[str, str]]
    """Members' names by node id, this node included."""
    portrait: Callable[[], Snapshot]
    """This node as it is now."""
    find: Callable[[str], Awaitable[HeldModel | None]]
    """This node's own model file of a name, and in its portrait from then on; None if it has none. Raises
    `BadRequest` for a name that may mean several, `ModelError` for a file that cannot be used."""
    clock: Clock
    nearby: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    """Unpaired meshes in the neighbourhood, as `status` shows them."""
    measured: Callable[[str], Measured | None] = lambda _: None
    """What this node's gateway measured of an instance, by its id."""


class ControlService:
    """One node's share in running the mesh. `run` drives it; everything else is called from the event loop.

    `gossip` is run by the node; control reads its table and has it announce what changes here.
    """

    def __init__(
        self,
        node: str,
        election: Election,
        gossip: GossipService,
        *,
        wires: Wires,
        keeper: StageKeeper,
        around: Surroundings,
    ) -> None:
        self._node = node
        self._gossip = gossip
        self._wires = wires
        self._keeper = keeper
        self._around = around
        self._since = around.clock()
        self._heard_at: dict[str, float] = {}
        self._answers: dict[str, asyncio.Future[Answered]] = {}
        self._loads: dict[str, asyncio.Task[Instance]] = {}
        self._listeners: list[Listener] = []
        self._plane = ControlPlane(node, election)
        gossip.on_snapshot(lambda _node, _snapshot: self._look())
        for kind in MESSAGES:
            wires.on(kind, self._received)
        wires.on_peer(self._peer_changed)

    async def run(self) -> None:
        """Lets time pass for the machines until cancelled."""
        while True:
            self._look()
            self._carry_out(self._plane.tick(self._around.clock()))
            await asyncio.sleep(TICK_S)

    def close(self) -> None:
        """Ends what this node still waits for: the session is over."""
        for future in self._answers.values():
            if not future.done():
                future.set_exception(Unavailable("This node is moving or stopping. Send the request again."))

    # Questions

    @property
    def leader(self) -> str | None:
        """Node id of the leader; None while there is none."""
        return self._plane.election.leader

    def members(self) -> Members:
        """All members with their liveness and newest snapshots."""
        return self._plane.members

    def instances(self) -> tuple[Instance, ...]:
        """The instances of the mesh, as the leader told last."""
        return self._plane.instances

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener` for each change of leader and of instances, and when an instance becomes ready."""
        self._listeners.append(listener)

    def status(self) -> dict[str, Any]:
        """The object of `status --json`."""
        election = self._plane.election
        return status(
            View(
                node=self._node,
                own=self._around.portrait(),
                mesh=self._around.mesh_id(),
                leader=election.leader,
                ballot=election.ballot,
                members=self._plane.members,
                rtt_us={node: facts.rtt_us for node, facts in self._wires.peers().items()},
                nearby=self._around.nearby(),
                instances=self._plane.instances,
                measured=self._around.measured,
            )
        )

    # Requests

    async def load(
        self,
        model: str,
        *,
        context: int = 0,
        slots: int = 0,
        policy: str = "latency",
        min_nodes: int = 1,
        stages: Stages = (),
        progress: Callable[[float], None] | None = None,
    ) -> Instance:
        """Has a model loaded and returns its ready instance. Zeros mean defaults; `min_nodes` 0 = any instance does.

        `progress` is told the share that is done, 0 … 1. Raises the `PeerinferError` that the leader answers with,
        or `UnknownModel`, `BadRequest`, `ModelError` if the name means no usable file.
        """
        found = await self._find(model)
        request = LoadRequest(
            secrets.token_hex(8), found.name, found.digest, context, slots, policy, min_nodes, tuple(stages)
        )
        answer = asyncio.ensure_future(self._ask(request))
        try:
            while progress is not None and not answer.done():
                await asyncio.wait({answer}, timeout=PROGRESS_S)
                progress(self._share(found.digest))
            return self._instance(await answer)
        finally:
            answer.cancel()

    async def unload(self, model: str) -> None:
        """Has a model unloaded everywhere. Raises `UnknownModel` if it is not loaded."""
        names = {name for one in self.instances() for name in (one.id, one.digest, one.model)}
        wanted = model if model in names else (await self._find(model)).digest
        await self._ask(UnloadRequest(secrets.token_hex(8), wanted))

    async def ensure(self, model: str) -> Instance:
        """The ready instance of a model for a chat; it is loaded if need be, once for all who wait.

        An empty name means the one that is loaded, if it is just one. Raises as `load` does.
        """
        ready = [one for one in self.instances() if one.state is InstanceState.READY]
        if not model:
            return _only(ready)
        match = [one for one in ready if model.lower() in (one.id, one.digest, one.model)]
        if match:
            return match[-1]
        task = self._loads.get(model)
        if task is None:
            task = self._loads[model] = asyncio.create_task(self.load(model, min_nodes=0))
            task.add_done_callback(partial(self._load_ended, model))
        return await asyncio.shield(task)

    def _load_ended(self, model: str, task: asyncio.Task[Instance]) -> None:
        del self._loads[model]
        if not task.cancelled():
            task.exception()  # every waiter may have gone; then nobody else asks for it

    async def _find(self, model: str) -> HeldModel:
        own = await self._around.find(model)
        if own is None:
            return find_in_mesh(model, self._plane.members)
        told = self._snapshot_of(self._node)
        if told is None or own not in told.models:
            self._gossip.push()  # so that the leader knows of the file before it is asked for it
        return own

    async def _ask(self, request: LoadRequest | UnloadRequest) -> Answered:
        future = asyncio.get_running_loop().create_future()
        self._answers[request.request_id] = future
        try:
            self._carry_out(self._plane.ask(request, self._around.clock()))
            answer = await future
        finally:
            del self._answers[request.request_id]
        if answer.code:
            raise error_from_code(answer.code, answer.reason)
        return answer

    def _instance(self, answer: Answered) -> Instance:
        found = next((one for one in self.instances() if one.id == answer.instance), None)
        if found is None:
            raise UnknownModel("The model was unloaded as soon as it was ready; load it again.")
        return found

    def _share(self, digest: str) -> float:
        loading = [one for one in self.instances() if one.digest == digest]
        return loading_share(loading[-1], self._plane.members) if loading else 0.0

    # What comes in

    def _look(self) -> None:
        """Who is here now."""
        now = self._around.clock()
        for node, facts in self._wires.peers().items():
            self._heard_at[node] = facts.last_heard
        roster = self._around.roster()
        self._gossip.table.keep_only({self._node, *roster})
        members = members_now(
            self._node,
            roster,
            heard_at=self._heard_at,
            snapshot_of=self._snapshot_of,
            since=self._since,
            now=now,
        )
        self._carry_out(self._plane.see(members, now))

    def _snapshot_of(self, node: str) -> Snapshot | None:
        entry = self._gossip.table.entry(node)
        return entry.snapshot if entry else None

    def _received(self, sender: str, message: object) -> None:
        self._carry_out(self._plane.receive(sender, message, self._around.clock()))

    def _peer_changed(self, node: str, up: bool) -> None:
        if up:
            self._look()
            self._carry_out(self._plane.peer_up(node, self._around.clock()))

    def _reported(self, instance: Instance, state: str, reason: str, progress: float) -> None:
        self._gossip.announce()
        self._carry_out(self._plane.reported(instance, state, reason, progress))

    # What goes out

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
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
            case Answered(request_id):
                future = self._answers.get(request_id)
                if future is not None and not future.done():
                    future.set_result(effect)
            case _:
                log.info("%s", effect)
                for listener in self._listeners:
                    listener(effect)

    def _send(self, node: str, message: object) -> None:
        with contextlib.suppress(LinkError):  # said again when the link is back, see `peer_up`
            self._wires.send(node, message)


def _only(ready: list[Instance]) -> Instance:
    if len(ready) == 1:
        return ready[0]
    if not ready:
        raise UnknownModel("No model is loaded; name one, or load one with `peerinfer load`.")
    raise BadRequest(f"Several models are loaded; name one of {', '.join(sorted(one.model for one in ready))}.")
