"""What a person can have the node do: `api.actions.NodeActions` over the node's rooms."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from peerinfer.api.actions import (
    TROUBLES,
    Asking,
    AskingHandler,
    JoinWish,
    LoadWish,
    ModelInfo,
    OpenInvite,
    PlanWish,
    Progress,
    ProgressHandler,
)
from peerinfer.api.replies import JsonObject
from peerinfer.clock import monotonic
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.state import InstanceState
from peerinfer.errors import BadRequest, InviteExpired, PairingBusy, PairingError, WrongDigits
from peerinfer.identity.pairing import Ending
from peerinfer.net.address import split_address
from peerinfer.net.joining import JoinResult, join
from peerinfer.net.pairing import PairingHost, Question
from peerinfer.node.benching import bench
from peerinfer.node.model_actions import ModelActions
from peerinfer.node.node import Node
from peerinfer.node.plan_actions import Look, find_held, plan_report

FAREWELL_S = 0.3
"""For a farewell to reach the peers before the links go down."""


class Actions:
    """See `NodeActions` for each method's contract."""

    def __init__(self, node: Node, stop: Callable[[], None], identity_changed: Callable[[], None]) -> None:
        """`stop` asks the daemon to end; `identity_changed` hears of a new node id."""
        self._node = node
        self._stop = stop
        self._identity_changed = identity_changed
        self._invitation: PairingHost | None = None
        self._watch: asyncio.Task[None] | None = None
        self._models = ModelActions(node)
        self._pairing = asyncio.Lock()
        """One change of who is paired with whom at a time."""
        self._is_joining = False

    def status(self) -> JsonObject:
        """`GET /peerinfer/state`."""
        session = self._node.session
        planner = session.solver.planner
        solver = {"name": planner.solver_name, "trouble": planner.trouble}
        return {**session.control.status(), "local": {"stages": session.times(), "solver": solver}}

    @property
    def chronicle(self) -> Chronicle:
        """`GET /peerinfer/events`."""
        return self._node.session.control.chronicle

    async def models(self) -> Sequence[ModelInfo]:
        """Model files here, and what peers have loaded."""
        loaded = [one for one in self._node.session.control.instances() if one.state is InstanceState.READY]
        ready = {one.digest for one in loaded}
        return await self._models.listing(ready, {one.digest: one for one in loaded})

    async def catalogue(self) -> JsonObject:
        """What can be pulled by a short name."""
        return await self._models.catalogue()

    async def pull(self, reference: str, progress: ProgressHandler) -> JsonObject:
        """Brings a model to this machine, and tells the mesh."""
        return await self._models.pull(reference, progress)

    async def import_model(self, folder: str, name: str, progress: ProgressHandler) -> JsonObject:
        """Converts a model in MLX's format, and tells the mesh."""
        return await self._models.import_folder(folder, name, progress)

    async def remove_model(self, model: str) -> JsonObject:
        """Forgets a model and frees its room."""
        in_use = {one.digest: one.model for one in self._node.session.control.instances()}
        return await self._models.remove(model, in_use)

    async def load(self, wish: LoadWish, progress: ProgressHandler) -> JsonObject:
        """Loads a model and waits until it is ready."""
        session = self._node.session
        model = await self._models.meant(wish.model, progress)
        instance = await session.control.requests.load(
            model,
            context=wish.context,
            slots=wish.slots,
            policy=wish.policy,
            min_nodes=wish.min_nodes,
            stages=wish.stages,
            progress=lambda share: progress(Progress(f"Loading {model}", share)),
        )
        shown = [one for one in session.control.status()["instances"] if one["id"] == instance.id]
        return shown[0] if shown else {"id": instance.id, "model": instance.model}

    async def unload(self, model: str) -> None:
        """Lets a model go everywhere."""
        await self._node.session.control.requests.unload(model)

    async def plan(self, wish: PlanWish) -> JsonObject:
        """Where a model would be placed."""
        control = self._node.session.control
        name = wish.model
        if name.lower().endswith(".gguf") and Path(name).is_absolute():
            name = await self._node.session.add_model(Path(name))
        model = await find_held(name, self._node.store, control.members())
        first = self._node.identity.node_id
        solve = self._node.session.solver.planner.solve
        return await plan_report(Look(model, wish, control.members(), control.instances(), first), solve)

    async def bench(self, model: str, progress: ProgressHandler) -> JsonObject:
        """Measures this machine and the mesh."""
        return await bench(self._node, model, progress)

    async def config(self, key: str, value: str | None) -> JsonObject:
        """The settings; the mesh hears of a change at once."""
        desk = self._node.policy
        if value is not None:
            await asyncio.to_thread(desk.set, key, value)
            engines = self._node.session.instruments.engines
            await engines.prepare()
            desk.changed()
            return {**desk.current.shown(), TROUBLES: [sentence for _, sentence in engines.troubles()]}
        return desk.current.shown()

    # ---- pairing

    async def invite(self, confirm: bool) -> OpenInvite:
        """Opens the window."""
        self._check_not_joining()
        async with self._pairing:
            return await self._invite(confirm)

    async def _invite(self, confirm: bool) -> OpenInvite:
        if self._invitation is not None and self._invitation.outcome is None:
            raise PairingBusy("An invitation is open already. Wait for its end, or close it, then invite again.")
        await self.close_invite()
        session = self._node.session
        host = self._node.config.listen.host
        addresses = session.peer_addresses()
        invitation = await PairingHost.open(self._node.identity, host, addresses=addresses, confirm=confirm)
        self._invitation = invitation
        self._watch = asyncio.create_task(self._watch_invitation(invitation))
        if session.discovery is not None:
            session.discovery.show_pairing(invitation.port)
        return OpenInvite(
            invitation.code.replace("-", ""), invitation.uri, invitation.port, invitation.expires_at - monotonic()
        )

    async def invited(self, asking: AskingHandler) -> JsonObject:
        """Waits for the end of the window."""
        if self._invitation is None:
            raise InviteExpired("No invitation is open. Run `peerinfer invite`.")

        def heard(question: Question | None) -> None:
            asking(None if question is None else Asking(question.node_id, question.name))

        self._invitation.on_question(heard)
        outcome = await self._invitation.finished()
        if outcome.ending is Ending.JOINED:
            return {"node": outcome.node_id, "name": outcome.name}
        if outcome.ending is Ending.TRIES_USED_UP:
            raise WrongDigits("Three tries let nobody in, so the invitation was closed. Invite again.")
        raise InviteExpired("Nobody joined in time. Run `peerinfer invite` again.")

    async def answer(self, node: str, accept: bool) -> JsonObject:
        """Lets in who asks, or does not."""
        if self._invitation is None:
            raise InviteExpired("No invitation is open. Run `peerinfer invite`.")
        question = self._invitation.answer(node, accept)
        return {"node": question.node_id, "name": question.name, "accepted": accept}

    async def close_invite(self) -> None:
        """Closes the window."""
        invitation, watch = self._invitation, self._watch
        self._invitation = self._watch = None
        if invitation is not None:
            await invitation.close()
        if watch is not None:
            await asyncio.gather(watch, return_exceptions=True)

    async def join(self, wish: JoinWish, progress: ProgressHandler) -> JsonObject:
        """Joins another mesh and begins to work in it."""
        identity = self._node.identity
        try:
            host, port = split_address(wish.host) if wish.host else ("", 0)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        self._check_not_joining()
        async with self._pairing:
            self._is_joining = True
            try:
                await self.close_invite()
                progress(Progress(f"Asking {wish.host or 'the inviting node'} to be let in"))
                waits = Progress("Waiting until somebody there says yes")
                joined = await join(identity, host, port, wish.code, asked=lambda: progress(waits))
                progress(Progress("Joining the mesh"))
                await _to_its_end(self._enter(joined))
            finally:
                self._is_joining = False
        inviter = identity.inviter
        name = identity.roster.members[inviter].name if inviter in identity.roster.members else ""
        return {"mesh": joined.mesh_id, "node": inviter, "name": name}

    async def _enter(self, joined: JoinResult) -> None:
        await self._node.change_membership(joined.addresses)
        self._identity_changed()

    def _check_not_joining(self) -> None:
        """Raises `PairingBusy` while a join is under way, since that may wait for a person."""
        if self._is_joining:
            raise PairingBusy("This machine asks to join another mesh at the moment. Wait for that, or stop it first.")

    async def remove(self, node: str) -> JsonObject:
        """Removes a member by id, beginning of an id, or name."""
        identity = self._node.identity
        members = identity.roster.members
        by_id = [each for each in members if each == node or (len(node) >= 4 and each.startswith(node))]
        found = by_id or [each for each, member in members.items() if member.name == node]
        if not found:
            raise PairingError(f"No member of this mesh is called {node[:64]!r}; `peerinfer status` lists them.")
        if len(found) > 1:
            raise PairingError(f"{len(found)} members are called {node[:64]!r}: give the id, see `peerinfer status`.")
        if found[0] == identity.node_id:
            raise PairingError("That is this node itself: to leave the mesh, run `peerinfer leave`.")
        name = members[found[0]].name
        identity.remove(found[0])
        self._node.session.roster.tell_all()
        if found[0] not in identity.authority.standing.covers:  # then no new CA could be made
            identity.authority.check_rotatable()
        return {"node": found[0], "name": name}

    async def leave(self) -> JsonObject:
        """Says farewell and begins again as a mesh of one."""
        identity = self._node.identity
        if identity.is_alone and not identity.is_removed:
            raise PairingError("This node is in no mesh but its own; there is nothing to leave.")
        self._check_not_joining()
        async with self._pairing:
            await self.close_invite()
            if not identity.is_removed:  # else the others know
                identity.remove(identity.node_id)
                self._node.session.roster.tell_all()
                await asyncio.sleep(FAREWELL_S)
            identity.leave()
            await self._node.change_membership()
            self._identity_changed()
        return {"mesh": identity.mesh_id}

    async def down(self) -> None:
        """Has the daemon stop."""
        self._stop()

    async def close(self) -> None:
        """Ends what is under way, with the node."""
        await self.close_invite()

    async def _watch_invitation(self, invitation: PairingHost) -> None:
        outcome = await invitation.finished()
        with contextlib.suppress(Exception):  # the node may be stopping or moving: then there is nothing to show
            session = self._node.session
            if session.discovery is not None:
                session.discovery.show_pairing(None)
            if outcome.ending is Ending.JOINED:
                session.roster.tell_all()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Does `work` whole, even if it is cancelled meanwhile."""
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
