"""OpenAI's routes: chat completions, completions and models, over the pipeline's `ChatService`."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web

from peerinfer import clock
from peerinfer.api.actions import NodeActions
from peerinfer.api.body import read_json
from peerinfer.api.openai_reply import DONE, ChatShape, CompletionShape, Shape, counts_of, details_of
from peerinfer.api.openai_request import Wish, read_chat, read_completion
from peerinfer.api.replies import JsonObject, body_of, error_body, json_reply
from peerinfer.api.sse import STALL_S, ClientLost, EventStream, event_of
from peerinfer.errors import PeerinferError, UnknownModel
from peerinfer.pipeline.requests import Answer, ChatService

ShapeOf = Callable[[Answer, bool], Shape]
_log = logging.getLogger(__name__)


class OpenAiRoutes:
    """Answers OpenAI clients. A request ends in one way: whole, cancelled with its client, or with an error told."""

    def __init__(self, chat: ChatService, actions: NodeActions, stall_s: float = STALL_S) -> None:
        self._chat = chat
        self._actions = actions
        self._stall_s = stall_s
        self._since = int(clock.wall())

    def routes(self) -> list[web.RouteDef]:
        """The routes of this room."""
        return [
            web.post("/v1/chat/completions", self._chat_completions),
            web.post("/v1/completions", self._completions),
            web.get("/v1/models", self._models),
            web.get("/v1/models/{id:.+}", self._model),
        ]

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_chat(await read_json(request)), ChatShape)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_completion(await read_json(request)), CompletionShape)

    async def _answer(self, request: web.Request, wish: Wish, shape_of: ShapeOf) -> web.StreamResponse:
        answer = await self._chat.open(wish.request)
        try:
            shape = shape_of(answer, wish.include_usage)
            if wish.stream:
                return await self._stream(request, wish, answer, shape)
            return await _whole(wish, answer, shape)
        finally:
            await answer.cancel()  # also where the client has gone and this task was cancelled with it

    async def _stream(self, request: web.Request, wish: Wish, answer: Answer, shape: Shape) -> web.StreamResponse:
        async with EventStream(request, self._stall_s) as stream:
            try:
                await _tell(stream, wish, answer, shape)
            except PeerinferError as error:
                await stream.send(event_of(body_of(error)))
            except ClientLost:
                raise
            except Exception:
                _log.exception("an answer broke off")
                sentence = "Something went wrong inside peerinfer; its log says what."
                await stream.send(event_of(error_body(500, "internal_error", sentence)))
        return stream.response

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return json_reply({"object": "list", "data": [self._model_object(name) for name in await self._loaded()]})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        if name not in await self._loaded():
            raise UnknownModel(f"No model named {name[:200]!r} is loaded: `peerinfer load` loads one.")
        return json_reply(self._model_object(name))

    async def _loaded(self) -> list[str]:
        return [entry.name for entry in await self._actions.models() if entry.loaded]

    def _model_object(self, name: str) -> JsonObject:
        return {"id": name, "object": "model", "created": self._since, "owned_by": "peerinfer"}


async def _tell(stream: EventStream, wish: Wish, answer: Answer, shape: Shape) -> None:
    """Each piece at once. Raises `ClientLost`, or the error with which the answer breaks off."""
    await stream.send(shape.opening())
    async for delta in answer:
        if delta.text:
            await stream.send(shape.text(delta.text))
        if delta.finish is not None:
            await stream.send(_ending(wish, answer, shape, delta.finish))


async def _whole(wish: Wish, answer: Answer, shape: Shape) -> web.StreamResponse:
    texts: list[str] = []
    reason = "stop"
    async for delta in answer:
        texts.append(delta.text)
        reason = delta.finish or reason
    details = details_of(answer) if wish.details else None
    return json_reply(shape.whole("".join(texts), reason, counts_of(answer), details))


def _ending(wish: Wish, answer: Answer, shape: Shape, reason: str) -> bytes:
    finish = shape.finish(reason, details_of(answer) if wish.details else None)
    usage = shape.usage(counts_of(answer)) if wish.include_usage else b""
    return finish + usage + DONE
