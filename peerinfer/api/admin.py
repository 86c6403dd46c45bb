"""The routes by which a person changes things: all POST, all with the token, thin over `NodeActions`.

Long actions answer with lines of JSON (`application/x-ndjson`): `{"progress": {...}}` any number of times, then
`{"result": {...}}` or `{"error": {...}}`. What is wrong with the request itself has a status of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web

from peerinfer.api.actions import (
    Asking,
    JoinWish,
    LoadWish,
    NodeActions,
    OpenInvite,
    PlanWish,
    Progress,
    ProgressHandler,
)
from peerinfer.api.body import Fields, read_json
from peerinfer.api.guard import ADMIN_PREFIX
from peerinfer.api.replies import JsonObject, body_of, error_body, json_reply
from peerinfer.clock import monotonic
from peerinfer.errors import BadParameter, PeerinferError

POLICIES = ("latency", "throughput", "spread")
CONTEXT_MAX = 1 << 24
SLOTS_MAX = 256
"""Slots of one model: each is a KV cache on every stage."""
NODES_MAX = 1024
LAYERS_MAX = 4096
SETTING_MAX = 256
"""Characters of a setting's name or value."""
ASKINGS_MAX = 16
"""Lines of an invitation that wait for a slow reader: each of its few tries makes two at most."""
_log = logging.getLogger(__name__)

Action = Callable[[ProgressHandler], Awaitable[JsonObject]]


class AdminRoutes:
    """What a person does: with models, with this machine, and with who belongs to the mesh."""

    def __init__(self, actions: NodeActions) -> None:
        self._actions = actions
        self._running: set[asyncio.Task[JsonObject]] = set()

    def routes(self) -> list[web.RouteDef]:
        """The routes of this room."""
        handlers = {
            "load": self._load,
            "unload": self._unload,
            "plan": self._plan,
            "config": self._config,
            "bench": self._bench,
            "invite": self._invite,
            "answer": self._answer,
            "join": self._join,
            "remove": self._remove,
            "leave": self._leave,
            "models": self._models,
            "catalogue": self._catalogue,
            "pull": self._pull,
            "import": self._import,
            "rm": self._rm,
            "down": self._down,
        }
        return [web.post(ADMIN_PREFIX + name, handler) for name, handler in handlers.items()]

    async def close(self) -> None:
        """Gives up what is still under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _load(self, request: web.Request) -> web.StreamResponse:
        wish = read_load(await read_json(request))
        return await self._long(request, lambda progress: self._actions.load(wish, progress))

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        """A pull ends when the client goes away, as a person at a terminal expects; what came is kept."""
        reference = _required(Fields(await read_json(request)), "reference")
        return await self._long(request, lambda progress: self._actions.pull(reference, progress), ends_with=True)

    async def _import(self, request: web.Request) -> web.StreamResponse:
        """An import ends when the client goes away, and leaves nothing behind."""
        fields = Fields(await read_json(request))
        folder, name = _required(fields, "folder"), fields.text("name", max_length=SETTING_MAX)
        return await self._long(
            request, lambda progress: self._actions.import_model(folder, name, progress), ends_with=True
        )

    async def _rm(self, request: web.Request) -> web.StreamResponse:
        return json_reply(await self._actions.remove_model(_required(Fields(await read_json(request)), "model")))

    async def _join(self, request: web.Request) -> web.StreamResponse:
        """A join ends when the client goes away, unless it has been let in already."""
        fields = Fields(await read_json(request))
        wish = JoinWish(_required(fields, "code"), fields.text("host", max_length=300))
        return await self._long(request, lambda progress: self._actions.join(wish, progress), ends_with=True)

    async def _invite(self, request: web.Request) -> web.StreamResponse:
        """With `"wait": true` two lines: the open window, then who joined; it closes if the client goes away.

        With `"confirm": true` too, between them `{"progress": {"asking": {"node", "name"}}}` for each who knows the
        code and waits for `answer`. If one waits no longer, the window comes again, with it as `"withdrawn"`.
        """
        fields = Fields(await read_json(request))
        wait, confirm = fields.flag("wait"), fields.flag("confirm")
        if confirm and not wait:
            raise BadParameter("confirm", "`confirm` takes `wait`: who asks is told in the lines that are waited for.")
        window = await self._actions.invite(confirm)
        if not wait:
            return json_reply(dataclasses.asdict(window))
        try:
            return await self._until_joined(request, window)
        finally:
            await self._actions.close_invite()

    async def _until_joined(self, request: web.Request, window: OpenInvite) -> web.StreamResponse:
        opened = monotonic()
        lines: asyncio.Queue[JsonObject | None] = asyncio.Queue(ASKINGS_MAX)
        last: JsonObject = {}

        def heard(asking: Asking | None) -> None:
            nonlocal last
            if asking is not None:
                last = dataclasses.asdict(asking)
                lines.put_nowait({"asking": last})
            else:
                left = dataclasses.replace(window, expires_s=window.expires_s - (monotonic() - opened))
                lines.put_nowait({**dataclasses.asdict(left), "withdrawn": last})

        response = await _open_lines(request)
        await _line(response, {"progress": dataclasses.asdict(window)})
        joined = asyncio.create_task(_outcome(self._actions.invited(heard)))
        joined.add_done_callback(lambda _: lines.put_nowait(None))
        try:
            while (told := await lines.get()) is not None:
                await _line(response, {"progress": told})
            await _line(response, await joined)
        finally:
            joined.cancel()
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        fields = Fields(await read_json(request))
        if fields.raw("accept") is None:
            raise BadParameter("accept", "`accept` is missing.")
        return json_reply(await self._actions.answer(_required(fields, "node"), fields.flag("accept")))

    async def _unload(self, request: web.Request) -> web.StreamResponse:
        model = _required(Fields(await read_json(request)), "model")
        await self._actions.unload(model)
        return json_reply({"model": model})

    async def _plan(self, request: web.Request) -> web.StreamResponse:
        return json_reply(await self._actions.plan(read_plan(await read_json(request))))

    async def _bench(self, request: web.Request) -> web.StreamResponse:
        model = Fields(await read_json(request)).text("model")
        return await self._long(request, lambda progress: self._actions.bench(model, progress), ends_with=True)

    async def _config(self, request: web.Request) -> web.StreamResponse:
        fields = Fields(await read_json(request))
        value = None if fields.raw("value") is None else fields.text("value", max_length=SETTING_MAX)
        return json_reply(await self._actions.config(fields.text("key", max_length=SETTING_MAX), value))

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        return json_reply(await self._actions.remove(_required(Fields(await read_json(request)), "node")))

    async def _leave(self, request: web.Request) -> web.StreamResponse:
        await read_json(request)
        return json_reply(await self._actions.leave())

    async def _models(self, request: web.Request) -> web.StreamResponse:
        await read_json(request)
        return json_reply({"models": [dataclasses.asdict(entry) for entry in await self._actions.models()]})

    async def _catalogue(self, request: web.Request) -> web.StreamResponse:
        await read_json(request)
        return json_reply(await self._actions.catalogue())

    async def _down(self, request: web.Request) -> web.StreamResponse:
        await read_json(request)
        await self._actions.down()
        return json_reply({"stopping": True})

    async def _long(self, request: web.Request, action: Action, *, ends_with: bool = False) -> web.StreamResponse:
        """Runs `action` to its end, even if the client leaves, unless it `ends_with` the client."""
        newest: Progress | None = None
        news = asyncio.Event()

        def heard(progress: Progress) -> None:
            nonlocal newest
            newest = progress
            news.set()

        async def run() -> JsonObject:
            try:
                return await action(heard)
            finally:
                news.set()

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._ended)
        response = await _open_lines(request)
        try:
            while not task.done():
                await news.wait()
                news.clear()
                if newest is not None:
                    await _line(response, {"progress": dataclasses.asdict(newest)})
                    newest = None
        except (ConnectionError, asyncio.CancelledError):
            if ends_with:
                task.cancel()
            raise
        await _line(response, await _outcome(task))
        return response

    def _ended(self, task: asyncio.Task[JsonObject]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.info("an action failed: %s", error)


def read_load(body: JsonObject) -> LoadWish:
    """The body of `load`. Raises `BadParameter`."""
    fields = Fields(body)
    policy = fields.text("policy", "latency")
    if policy not in POLICIES:
        raise BadParameter("policy", f"`policy` must be one of {', '.join(POLICIES)}.")
    stages: Any = fields.raw("stages")
    if stages is None:
        stages = []
    if not isinstance(stages, list) or len(cast(list[Any], stages)) > NODES_MAX:
        raise BadParameter("stages", "`stages` must be a list of [node, first layer, end layer].")
    return LoadWish(
        model=_required(fields, "model"),
        context=fields.integer("context", 0, 1, CONTEXT_MAX),
        slots=fields.integer("slots", 0, 1, SLOTS_MAX),
        policy=policy,
        min_nodes=fields.integer("min_nodes", 1, 1, NODES_MAX),
        stages=tuple(_stage(item) for item in cast(list[Any], stages)),
    )


def read_plan(body: JsonObject) -> PlanWish:
    """The body of `plan`. Raises `BadParameter`."""
    like = read_load({**body, "stages": None})
    without: Any = Fields(body).raw("without") or []
    if not isinstance(without, list) or len(cast(list[Any], without)) > NODES_MAX:
        raise BadParameter("without", "`without` must be a list of nodes.")
    names = [name for name in cast(list[Any], without) if isinstance(name, str) and 0 < len(name) <= SETTING_MAX]
    if len(names) < len(cast(list[Any], without)):
        raise BadParameter("without", "Each of `without` must be the id or name of a node.")
    whole = PlanWish(like.model, policy=like.policy, min_nodes=like.min_nodes, without=tuple(names))
    return dataclasses.replace(whole, context=like.context or whole.context, slots=like.slots or whole.slots)


def _stage(item: object) -> tuple[str, int, int]:
    match item:
        case [str() as node, int() as first, int() as end] if node and 0 <= first < end <= LAYERS_MAX:
            return node, first, end
        case _:
            raise BadParameter("stages", "Each of `stages` must be [node, first layer, end layer], first below end.")


def _required(fields: Fields, name: str) -> str:
    text = fields.text(name, max_length=4096).strip()
    if not text:
        raise BadParameter(name, f"`{name}` is missing.")
    return text


async def _outcome(action: Awaitable[JsonObject]) -> JsonObject:
    try:
        return {"result": await action}
    except PeerinferError as error:
        return body_of(error)
    except Exception:
        _log.exception("an action failed")
        return error_body(500, "internal_error", "Something went wrong inside peerinfer; its log says what.")


async def _open_lines(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    await response.prepare(request)
    return response


async def _line(response: web.StreamResponse, body: JsonObject) -> None:
    await response.write(json.dumps(body).encode() + b"\n")
