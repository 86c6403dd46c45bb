"""The leader's duties: what is loaded, where, and in which state. Pure; it acts only while it has a ballot.

A load with the wishes of an instance that stands returns that instance. With other wishes the model is placed anew
beside the old one, which is drained once the new one is ready; where memory does not allow both, the old one is
dropped first. `min_nodes` 0 means "any instance of this model will do" (a chat asks so).

A lost stage (its node gone, or its engine dead) fails the instance, which is then placed again, once, under the same
id and a new epoch: model, context, slots and policy are kept, and with a node gone the stages are chosen freely on
those who are left. An engine that fails while loading is not tried again: it would fail again.

A new leader adopts the instances that others tell it of, running as they are. A list may be out of date, so what
nobody confirms to hold, and a worker says it does not hold, is forgotten rather than placed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from peerinfer.control.effects import Effects
from peerinfer.control.members import Members, named
from peerinfer.control.messages import Ballot, Instances, LoadRequest, StageReport, UnloadRequest
from peerinfer.control.outbox import Outbox
from peerinfer.control.placed import Placed, instance_id
from peerinfer.control.planning import Wishes, model_of, plan, wishes_of
from peerinfer.control.state import Instance, InstanceState
from peerinfer.errors import EngineError, NoLeader, NoPlacement, PeerinferError, QueueFull, StageLost, UnknownModel
from peerinfer.gossip.liveness import Liveness
from peerinfer.net.frames import Epoch

INSTANCES_MAX: Final = 16
"""More models at once than a home mesh has memory for; each costs a child process on every node of it."""
WAITING_MAX: Final = 64
"""Requests that wait for a load: a gateway waits once per model, so this is many people at many nodes."""
STALLED_AFTER_S: Final = 600.0
"""Loading without any progress for this long has failed: even a slow disk reports progress before."""
DRAIN_S: Final = 10.0
"""A replaced instance takes no new requests for this long before it is dropped, so short answers end."""
AGAIN_AFTER_S: Final = 10.0
"""An instance lost sooner than this after it was placed again stays failed: something is wrong with it."""
CONFIRM_WITHIN_S: Final = 5.0
"""Workers report what they hold as soon as they follow a new leader; this is ample for those that are here."""
RETELL_S: Final = 2.0
"""What a follower missed, because it did not follow yet, reaches it within this time."""
FORGOTTEN_MAX: Final = 256
"""Ids of removed instances that no former leader's list may bring back."""

_LOADING, _READY = InstanceState.LOADING, InstanceState.READY
_DRAINING, _FAILED = InstanceState.DRAINING, InstanceState.FAILED


class Leader:
    """Keeps the instances of the mesh while this node leads. Every call returns what is to be done, in order."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._minted = 0
        self._members: Members = ()
        self._placed: dict[str, Placed] = {}
        self._forgotten: deque[str] = deque(maxlen=FORGOTTEN_MAX)
        self._out = Outbox()
        self._retell_at = 0.0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances as they stand."""
        return tuple(placed.instance for placed in self._placed.values())

    def lead(self, ballot: Ballot, former: Iterable[Instance], now: float) -> Effects:
        """Leads under `ballot` from now on; `former` are the instances that this node knew of before."""
        self._out.ballot = ballot
        self._out.changed = True
        for placed in self._placed.values():
            self._out.load(placed)
        self._adopt(former, now)
        return self._out.empty(self.instances)

    def resign(self) -> None:
        """Somebody else leads, or nobody. Those who wait ask the next leader themselves."""
        self._out = Outbox()
        self._placed.clear()
        self._forgotten.clear()

    def see(self, members: Members, now: float) -> Effects:
        """The members as they are now: what stood on a node that is gone is lost."""
        self._members = members
        here = {member.node for member in members if member.state is not Liveness.GONE} | {self._node}
        for placed in list(self._placed.values()):
            gone = set(placed.nodes) - here
            if gone and placed.state is not _FAILED and not self._may_be_confirmed(placed, here, now):
                name = named(members, min(gone))
                self._lose(placed, f"{name}, which held a stage of it, is gone.", now, gone)
        return self._out.empty(self.instances)

    def peer_up(self, node: str) -> Effects:
        """A link is new: what was on its way over an older one may be lost, so it is said again."""
        for placed in self._placed.values():
            if placed.state is _LOADING:
                placed.forget(node)
                self._out.load(placed, only=node)
        return (*self._out.empty(self.instances), *self._out.tell(node, self.instances))

    def tick(self, now: float) -> Effects:
        """Ends what has drained, what stalled while loading, and what a former leader's list had wrong."""
        for placed in list(self._placed.values()):
            drained = placed.state is _DRAINING and now >= placed.drop_at
            if drained or (placed.is_doubtful and not self._may_be_confirmed(placed, set(placed.nodes), now)):
                self._remove(placed)
            elif placed.state is _LOADING and now - placed.moved_at > STALLED_AFTER_S:
                minutes = int(STALLED_AFTER_S // 60)
                self._lose(placed, f"Loading made no progress for {minutes} minutes; see the logs of its nodes.", now)
        if now < self._retell_at:
            return self._out.empty(self.instances)
        self._retell_at = now + RETELL_S
        for placed in self._placed.values():
            self._out.load(placed, silent_only=True)
        return (*self._out.empty(self.instances), *self._out.again(self.instances))

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """Takes `LoadRequest`, `UnloadRequest`, `StageReport`, and the `Instances` of a former leader."""
        if isinstance(message, (LoadRequest, UnloadRequest)):
            try:
                self._request(sender, message, now)
            except PeerinferError as error:
                self._out.reply(sender, message.request_id, error.code, str(error))
        elif isinstance(message, StageReport):
            self._report(sender, message, now)
        elif isinstance(message, Instances) and self._out.ballot not in (None, message.ballot):
            self._adopt(message.instances, now)
        return self._out.empty(self.instances)

    # Requests

    def _request(self, sender: str, message: LoadRequest | UnloadRequest, now: float) -> None:
        if self._out.ballot is None:
            raise NoLeader("This node does not lead the mesh; ask the leader.")
        if isinstance(message, UnloadRequest):
            self._unload(sender, message)
        elif not any((sender, message.request_id) in placed.waiting for placed in self._placed.values()):
            self._load(sender, message, now)

    def _load(self, sender: str, request: LoadRequest, now: float) -> None:
        model = model_of(request.digest, self._members)
        if model is None:
            raise UnknownModel(f"No node of this mesh that is up has the file of {request.model}.")
        wishes = wishes_of(request, model)
        same = [placed for placed in self._placed.values() if placed.instance.digest == request.digest]
        live = sorted((placed for placed in same if placed.is_live), key=lambda placed: placed.state is not _READY)
        any_will_do = request.min_nodes == 0
        match = next((placed for placed in live if any_will_do or placed.wishes == wishes), None)
        if match is None:
            self._check_waiting()
            failed = [placed for placed in same if placed.state is _FAILED]
            if any_will_do and failed:
                wishes = failed[-1].wishes
            match = self._replace(request.model, wishes, live, sender, now)
            for placed in failed:
                self._remove(placed)
        if match.state is _READY:
            self._out.reply(sender, request.request_id, instance=match.instance.id)
        else:
            self._check_waiting()
            match.waiting.append((sender, request.request_id))

    def _check_waiting(self) -> None:
        if sum(len(placed.waiting) for placed in self._placed.values()) >= WAITING_MAX:
            raise QueueFull(f"{WAITING_MAX} requests wait for models to load already; try again soon.")

    def _replace(self, model: str, wishes: Wishes, live: list[Placed], first: str, now: float) -> Placed:
        """Another placement of a model: loading ones give way to it, a ready one when it is ready (or must at once)."""
        loading = [placed for placed in live if placed.state is _LOADING]
        ready = [placed for placed in live if placed.state is _READY]
        try:
            fresh = self._place(model, wishes, first, now, leaving=loading)
            fresh.replaces = tuple(placed.instance.id for placed in ready)
            going = loading
        except NoPlacement:
            if not ready:
                raise
            fresh = self._place(model, wishes, first, now, leaving=live)
            going = live
        for placed in going:
            self._out.answer(placed, NoPlacement.code, f"Somebody asked for {model} with other wishes meanwhile.")
            self._remove(placed)
        self._out.load(fresh)
        return fresh

    def _place(
        self, model: str, wishes: Wishes, first: str, now: float, *, leaving: Sequence[Placed], as_id: str = ""
    ) -> Placed:
        """Plans and records an instance as if `leaving` were gone already; its stages are not commanded yet."""
        held = model_of(wishes.digest, self._members)
        if held is None or self._out.ballot is None:
            raise NoPlacement(f"No node that is up has the file of {model} any more.")
        self._make_room(leaving)
        standing = [one.instance for one in self._placed.values() if one.state is not _FAILED and one not in leaving]
        going = [one.instance for one in leaving]
        stages = plan(held, wishes, self._members, standing, first=first, leaving=going)
        self._minted += 1
        epoch = Epoch(self._out.ballot.counter, self._out.ballot.node, self._minted)
        name = as_id or instance_id(wishes.digest, epoch)
        instance = Instance(name, model, wishes.digest, epoch, _LOADING, stages, wishes.context, wishes.slots)
        placed = Placed(instance, wishes, now)
        self._placed[name] = placed
        self._out.changed = True
        return placed

    def _make_room(self, leaving: Sequence[Placed]) -> None:
        staying = [placed for placed in self._placed.values() if placed not in leaving]
        failed = [placed for placed in staying if placed.state is _FAILED]
        while len(staying) >= INSTANCES_MAX and failed:
            staying.remove(failed[0])
            self._remove(failed.pop(0))
        if len(staying) >= INSTANCES_MAX:
            raise NoPlacement(f"{INSTANCES_MAX} models are loaded already; unload one first.")

    def _unload(self, sender: str, request: UnloadRequest) -> None:
        wanted = request.model
        found = [one for one in self._placed.values() if wanted in one.names]
        if not found:
            raise UnknownModel(f"{wanted} is not loaded; `peerinfer status` shows what is.")
        for placed in found:
            self._out.answer(placed, NoPlacement.code, f"{placed.instance.model} was unloaded while it was loading.")
            self._remove(placed)
        self._out.reply(sender, request.request_id, instance=found[0].instance.id)

    # Reports and losses

    def _report(self, sender: str, report: StageReport, now: float) -> None:
        placed = self._placed.get(report.instance)
        if placed is None or not placed.concerns(sender, report) or placed.state is _FAILED:
            return
        if report.state not in ("loading", "ready"):
            placed.denied = f"Stage {report.stage} on {named(self._members, sender)} failed. {report.reason}".strip()
        elif placed.advance(report, now) and placed.state is _LOADING and not placed.denied:
            self._ready(placed, now)
        if placed.denied and placed.confirmed:
            self._lose(placed, placed.denied, now)

    def _ready(self, placed: Placed, now: float) -> None:
        placed.become(_READY)
        self._out.changed = True
        self._out.answer(placed)
        for old in [one for one in self._placed.values() if one.instance.id in placed.replaces and one.is_live]:
            old.become(_DRAINING, "Replaced by a newer load.")
            old.drop_at = now + DRAIN_S

    def _may_be_confirmed(self, placed: Placed, here: set[str], now: float) -> bool:
        """Whether it is too early to judge what a former leader left: somebody here may yet say that he holds it."""
        waits = now - placed.moved_at < CONFIRM_WITHIN_S
        return not placed.confirmed and waits and not here.isdisjoint(placed.nodes)

    def _lose(self, placed: Placed, reason: str, now: float, gone: Iterable[str] = ()) -> None:
        """A stage is lost: the instance fails, and is placed again if that may help. Those who wait go with it."""
        lost = set(gone)
        was = placed.state
        code = StageLost.code if lost else EngineError.code
        self._out.drop(placed.instance)
        placed.become(_FAILED, reason)
        self._out.changed = True
        if was is _DRAINING or placed.is_doubtful:
            self._remove(placed)
        elif (was is _READY or lost) and (placed.again_at is None or now - placed.again_at >= AGAIN_AFTER_S):
            code = self._again(placed, lost, now)
        self._out.answer(placed, code, placed.instance.reason)

    def _again(self, placed: Placed, lost: set[str], now: float) -> str:
        """Places a failed instance again under its id; the error code if that is not possible."""
        instance, wishes = placed.instance, placed.wishes
        if lost:
            alive = {member.node for member in self._members if member.state is Liveness.ALIVE}
            left = len((set(placed.nodes) - lost) & alive)
            wishes = replace(wishes, min_nodes=max(1, min(wishes.min_nodes, left)), stages=())
        try:
            fresh = self._place(instance.model, wishes, placed.nodes[0], now, leaving=[placed], as_id=instance.id)
        except PeerinferError as error:
            placed.become(_FAILED, f"{instance.reason} It could not be placed again: {error}")
            return error.code
        fresh.become(_LOADING, f"{instance.reason} It is being placed again.")
        fresh.again_at, fresh.replaces = now, placed.replaces
        fresh.waiting, placed.waiting = placed.waiting, []
        self._out.load(fresh)
        return ""

    def _remove(self, placed: Placed) -> None:
        if placed.state is not _FAILED:  # a failed one was dropped when it failed
            self._out.drop(placed.instance)
        if self._placed.get(placed.instance.id) is placed:
            del self._placed[placed.instance.id]
            self._forgotten.append(placed.instance.id)
        self._out.changed = True

    def _adopt(self, instances: Iterable[Instance], now: float) -> None:
        """Takes over what a former leader placed; workers' reports and the members' states then test it."""
        for instance in instances:
            known = self._placed.get(instance.id)
            kept = known is not None and known.confirmed and known.state is not _FAILED
            stale = kept or (known is not None and known.instance.epoch >= instance.epoch)
            if stale or instance.id in self._forgotten or (known is None and len(self._placed) >= INSTANCES_MAX):
                continue
            placed = Placed.adopted(instance, now)
            placed.drop_at = now + DRAIN_S
            self._placed[instance.id] = placed
            self._out.changed = True
            self._out.load(placed)
