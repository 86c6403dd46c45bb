"""What a person or a gateway of this node asks of the mesh: load, unload, and the ready instance of a model."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from peerinfer.control.catalogue import find_in_mesh
from peerinfer.control.effects import Answered
from peerinfer.control.members import Members
from peerinfer.control.messages import LoadRequest, UnloadRequest
from peerinfer.control.state import ClusterState, Instance, InstanceState
from peerinfer.errors import BadRequest, Unavailable, UnknownModel, error_from_code
from peerinfer.gossip.snapshot import HeldModel

PROGRESS_S: Final = 0.5
"""How often a load tells its progress."""

Find = Callable[[str], Awaitable[HeldModel | None]]
"""This node's own model file of a name, told to the leader before it is asked for; None if it has none."""
Stages = tuple[tuple[str, int, int], ...]


class Mesh(Protocol):
    """What requests see of the mesh, and how they reach the leader."""

    @property
    def state(self) -> ClusterState: ...
    def members(self) -> Members: ...
    def instances(self) -> tuple[Instance, ...]: ...
    def ask(self, request: LoadRequest | UnloadRequest, /) -> None: ...


class Requests:
    """Open requests of this node, each with who waits for it."""

    def __init__(self, mesh: Mesh, find: Find) -> None:
        self._mesh = mesh
        self._find_own = find
        self._answers: dict[str, asyncio.Future[Answered]] = {}
        self._loads: dict[str, asyncio.Task[Instance]] = {}

    def close(self) -> None:
        """Ends what is still waited for: the session is over."""
        for future in self._answers.values():
            if not future.done():
                future.set_exception(Unavailable("This node is moving or stopping. Send the request again."))

    def answered(self, answer: Answered) -> None:
        """The control machines tell how a request ended."""
        future = self._answers.get(answer.request_id)
        if future is not None and not future.done():
            future.set_result(answer)

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
        names = {name for one in self._mesh.instances() for name in (one.id, one.digest, one.model)}
        wanted = model if model in names else (await self._find(model)).digest
        await self._ask(UnloadRequest(secrets.token_hex(8), wanted))

    async def ensure(self, model: str) -> Instance:
        """The ready instance of a model for a chat; it is loaded if need be, once for all who wait.

        An empty name means the one that is loaded, if it is just one. Raises as `load` does.
        """
        ready = [one for one in self._mesh.instances() if one.state is InstanceState.READY]
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
        return await self._find_own(model) or find_in_mesh(model, self._mesh.members())

    async def _ask(self, request: LoadRequest | UnloadRequest) -> Answered:
        future = asyncio.get_running_loop().create_future()
        self._answers[request.request_id] = future
        try:
            self._mesh.ask(request)
            answer = await future
        finally:
            del self._answers[request.request_id]
        if answer.code:
            raise error_from_code(answer.code, answer.reason)
        return answer

    def _instance(self, answer: Answered) -> Instance:
        found = next((one for one in self._mesh.instances() if one.id == answer.instance), None)
        if found is None:
            raise UnknownModel("The model was unloaded as soon as it was ready; load it again.")
        return found

    def _share(self, digest: str) -> float:
        loading = [one for one in self._mesh.instances() if one.digest == digest]
        return self._mesh.state.loading_share(loading[-1]) if loading else 0.0


def _only(ready: list[Instance]) -> Instance:
    if len(ready) == 1:
        return ready[0]
    if not ready:
        raise UnknownModel("No model is loaded; name one, or load one with `peerinfer load`.")
    raise BadRequest(f"Several models are loaded; name one of {', '.join(sorted(one.model for one in ready))}.")
