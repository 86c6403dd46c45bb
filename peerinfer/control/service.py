"""The door of control: wires the plane to links, gossip, models and stages, and answers this node's questions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from peerinfer import __version__
from peerinfer.clock import Clock
from peerinfer.control.catalogue import Models, find_in_mesh
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
from peerinfer.control.plane import MESSAGES, ControlPlane
from peerinfer.control.state import Instance, InstanceState
from peerinfer.control.status import Measured, View, loading_share, status
from peerinfer.control.worker import StageKeeper
from peerinfer.election.effects import LeaderChanged, SendTo
from peerinfer.election.lowest import LowestLeads
from peerinfer.errors import BadRequest, LinkError, PeerinferError, UnknownModel, error_of
from peerinfer.gossip.envelope import Verify
from peerinfer.gossip.service import Counter, GossipService, Signer, Wires
from peerinfer.gossip.snapshot import Device, HeldModel, Snapshot
from peerinfer.telemetry.facts import Hardware

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""How often time passes for the machines: half of the shortest of their periods."""
MODELS_EVERY_S: Final = 10.0
"""How often the model folders are looked at: a file that was just copied is known this much later."""
PROGRESS_S: Final = 0.5
"""How often a load tells its progress."""

Event = LeaderChanged | InstancesChanged | InstanceBecameReady
Listener = Callable[[Event], None]
Stages = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the node hands in: this machine and the mesh as other rooms know them."""

    name: str
    engines: tuple[str, ...]
    """Engines that work here, the preferred one first."""
    roster: Callable[[], Mapping[str, str]]
    """Members' names by node id, this node included."""
    models: Models
    hardware: Callable[[float], Hardware]
    """This machine at a time (seconds, monotonic)."""
    clock: Clock
    nearby: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    """Unpaired meshes in the neighbourhood, as `status` shows them."""
    measured: Callable[[str], Measured | None] = lambda _: None
    """What this node's gateway measured of an instance, by its id."""


class ControlService:
    """One node's share in running the mesh. `run` drives it; everything else is called from the event loop."""

    def __init__(
        self,
        identity: Signer,
        verify: Verify,
        incarnation: Counter,
        *,
        wires: Wires,
        keeper: StageKeeper,
        around: Surroundings,
    ) -> None:
        self._identity = identity
        self._wires = wires
        self._keeper = keeper
        self._around = around
        self._since = around.clock()
        self._heard_at: dict[str, float] = {}
        self._models: tuple[HeldModel, ...] = ()
        self._answers: dict[str, asyncio.Future[Answered]] = {}
        self._loads: dict[str, asyncio.Task[Instance]] = {}
        self._listeners: list[Listener] = []
        self._plane = ControlPlane(identity.node_id, LowestLeads(identity.node_id, incarnation.value))
        self.gossip = GossipService(identity, verify, incarnation, wires, self._compose)
        self.gossip.on_snapshot(lambda _node, _snapshot: self._look())
        for kind in MESSAGES:
            wires.on(kind, self._received)
        wires.on_peer(self._peer_changed)

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.gossip.run())
            tasks.create_task(self._watch_models())
            while True:
                self._look()
                self._carry_out(self._plane.tick(self._around.clock()))
                await asyncio.sleep(TICK_S)

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
                node=self._identity.node_id,
                own=self._compose(),
                mesh=self._identity.mesh_id,
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
        own = await asyncio.to_thread(self._around.models.find, model)
        if own is None:
            return find_in_mesh(model, self._plane.members)
        if own not in self._models:
            await self._look_at_models()
            self.gossip.push()  # so that the leader knows of the file before it is asked for it
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
            raise error_of(answer.code, answer.reason)
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
        self.gossip.table.keep_only({self._identity.node_id, *roster})
        members = members_now(
            self._identity.node_id,
            roster,
            heard_at=self._heard_at,
            snapshot_of=self._snapshot_of,
            since=self._since,
            now=now,
        )
        self._carry_out(self._plane.see(members, now))

    def _snapshot_of(self, node: str) -> Snapshot | None:
        entry = self.gossip.table.entry(node)
        return entry.snapshot if entry else None

    def _received(self, sender: str, message: object) -> None:
        self._carry_out(self._plane.receive(sender, message, self._around.clock()))

    def _peer_changed(self, node: str, up: bool) -> None:
        if up:
            self._look()
            self._carry_out(self._plane.peer_up(node, self._around.clock()))

    def _reported(self, instance: Instance, state: str, reason: str, progress: float) -> None:
        self.gossip.announce()
        self._carry_out(self._plane.reported(instance, state, reason, progress))

    async def _watch_models(self) -> None:
        while True:
            await self._look_at_models()  # the first time it may hash files for minutes: nothing else waits for it
            await asyncio.sleep(MODELS_EVERY_S)

    async def _look_at_models(self) -> None:
        models = tuple(await asyncio.to_thread(self._around.models.listing))
        if models != self._models:
            self._models = models
            self.gossip.announce()

    def _compose(self) -> Snapshot:
        hardware = self._around.hardware(self._around.clock())
        return Snapshot(
            name=self._around.name,
            version=__version__,
            memory_bytes=hardware.memory_bytes,
            memory_free_bytes=hardware.memory_free_bytes,
            devices=tuple(
                Device(one.kind, one.name, one.memory_bytes, one.memory_free_bytes, one.cores)
                for one in hardware.devices
            ),
            on_battery=hardware.on_battery,
            engines=self._around.engines,
            models=self._models,
            stages=self._keeper.held(),
        )

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
                self.gossip.announce()
            case StopStage(instance, epoch):
                self._keeper.drop(instance, epoch)
                self.gossip.announce()
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
