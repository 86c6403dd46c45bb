"""The gateway: turns a chat request into token ids, finds its first stage, and gathers the answer.

It keeps prompt and produced token ids; text exists nowhere else in the mesh.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from peerinfer.clock import Clock
from peerinfer.control.state import Instance
from peerinfer.engine.host import TokenizerHost
from peerinfer.errors import BadRequest, ContextExceeded, LinkDown, LinkError, StageLost, Unavailable
from peerinfer.net.switchboard import Switchboard
from peerinfer.pipeline.answer import CREDITS, LiveAnswer
from peerinfer.pipeline.first import id_bytes
from peerinfer.pipeline.messages import Credit, Ended, Stop, Submit, Token
from peerinfer.pipeline.requests import Answer, ChatRequest
from peerinfer.pipeline.stops import STOP_LENGTH_MAX, STOPS_MAX

ANSWERS_MAX = 256
"""Answers under way at one gateway."""
INSTANCES_MAX = 64
"""Instances whose last speed is kept."""
MESSAGES_MAX = 4096
"""Turns of one conversation."""


class Instances(Protocol):
    """What the gateway needs from control."""

    async def ensure(self, model: str) -> Instance:
        """The ready instance of a model, loaded on demand. Raises `UnknownModel`, `NoPlacement`, …"""
        ...


class Tokenizers(Protocol):
    """Finds the tokenizer of a model."""

    async def of(self, digest: str, model: str) -> TokenizerHost:
        """The tokenizer of the model with this digest, opened."""
        ...


class Gateway:
    """`requests.ChatService` over the switchboard."""

    def __init__(self, switchboard: Switchboard, instances: Instances, tokenizers: Tokenizers, clock: Clock) -> None:
        self._switchboard = switchboard
        self._instances = instances
        self._tokenizers = tokenizers
        self._clock = clock
        self._answers: dict[str, tuple[LiveAnswer, Instance]] = {}
        self._speeds: dict[str, tuple[float, float]] = {}
        self._retries: dict[str, ChatRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        switchboard.on(Token, self._token)
        switchboard.on(Ended, self._ended)
        switchboard.on_peer(self._peer)

    @property
    def active(self) -> int:
        """Answers under way."""
        return len(self._answers)

    async def open(self, request: ChatRequest) -> Answer:
        """See `requests.ChatService.open`."""
        _check(request)
        if len(self._answers) >= ANSWERS_MAX:
            raise Unavailable(f"{ANSWERS_MAX} answers are under way on this node. Try again in a moment.")
        instance = await self._instances.ensure(request.model)
        self._check_private(request, instance)
        tokenizer = await self._tokenizers.of(instance.digest, instance.model)
        if request.prompt is not None:
            prompt = await tokenizer.encode(request.prompt)
        else:
            turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
            prompt = await tokenizer.encode_chat(turns)
        room = instance.context - len(prompt)
        wanted = room if request.max_tokens is None else request.max_tokens
        if not prompt:
            raise BadRequest("The prompt is empty. Send at least one character.")
        if room < 1 or (request.max_tokens is not None and wanted > room):
            raise ContextExceeded(
                f"The prompt has {len(prompt)} tokens and the answer may have {max(1, wanted)}, but the context holds "
                f"{instance.context}. Shorten the prompt, lower max_tokens, or load the model with a larger --context."
            )
        request = replace(request, max_tokens=wanted)
        answer = LiveAnswer(
            secrets.token_hex(16), instance.model, prompt, table=tokenizer.table, stops=request.stop, clock=self._clock
        )
        answer.done = lambda: self._done(answer, instance.id)
        self._retries[answer.request_id] = request
        self._submit(answer, instance, request, tokenizer.end_tokens)
        return answer

    def measured(self, instance_id: str) -> tuple[float, float] | None:
        """Tokens per second and milliseconds to the first token of the last answer of an instance; None before it."""
        return self._speeds.get(instance_id)

    def _done(self, answer: LiveAnswer, instance_id: str) -> None:
        self._forget(answer.request_id)
        if answer.tokens_per_s > 0:
            self._speeds.pop(instance_id, None)
            while len(self._speeds) >= INSTANCES_MAX:
                del self._speeds[next(iter(self._speeds))]
            self._speeds[instance_id] = (answer.tokens_per_s, answer.ttft_ms)

    def _submit(self, answer: LiveAnswer, instance: Instance, request: ChatRequest, end_tokens: Sequence[int]) -> None:
        first, last = instance.stages[0].node, instance.stages[-1].node
        if last != self._switchboard.own_id and not self._switchboard.is_connected(last):
            raise StageLost("The machine that ends this model's pipeline is not reachable from here. Try again soon.")
        request_id = answer.request_id
        answer.grant = lambda tokens: self._tell(first, Credit(request_id, instance.id, tokens))
        answer.stop = lambda: self._tell(first, Stop(request_id, instance.id))
        message = Submit(
            request_id=request_id,
            instance=instance.id,
            epoch=instance.epoch,
            prompt=id_bytes(answer.prompt_token_ids),
            max_tokens=request.max_tokens or 1,
            sampling=request.sampling,
            end_tokens=tuple(end_tokens),
            credits=CREDITS,
        )
        self._answers[request_id] = (answer, instance)
        try:
            self._switchboard.send(first, message)
        except LinkError as error:
            self._forget(request_id)
            raise StageLost(f"The machine that starts this model's pipeline cannot be asked. {error}") from None

    def _check_private(self, request: ChatRequest, instance: Instance) -> None:
        if request.private and any(place.node != self._switchboard.own_id for place in instance.stages):
            raise Unavailable(
                f"A private request runs on this node alone, but {instance.model} is split over "
                f"{len(instance.stages)} nodes. Load a model that fits here, or send it without `private`."
            )

    # ---- what the ring says

    def _token(self, sender: str, message: Token) -> None:
        found = self._answers.get(message.request_id)
        if found is not None and sender == found[1].stages[-1].node:
            found[0].receive(message)

    def _ended(self, sender: str, message: Ended) -> None:
        found = self._answers.get(message.request_id)
        if found is None or sender != found[1].stages[0].node:
            return
        request = self._retries.pop(message.request_id, None)
        if message.code == "wrong_epoch" and request is not None and not found[0].token_ids:
            task = asyncio.get_running_loop().create_task(self._again(found[0], request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        code = "stage_lost" if message.code == "wrong_epoch" else message.code
        found[0].receive(replace(message, code=code))

    async def _again(self, answer: LiveAnswer, request: ChatRequest) -> None:
        """The instance moved between our look and the first stage's: once more, against the current one."""
        try:
            instance = await self._instances.ensure(request.model)
            self._check_private(request, instance)
            tokenizer = await self._tokenizers.of(instance.digest, instance.model)
            if answer.request_id in self._answers:
                self._submit(answer, instance, request, tokenizer.end_tokens)
        except Exception as error:
            answer.break_off(getattr(error, "code", "stage_lost"), str(error))

    def _peer(self, node: str, up: bool) -> None:
        if up:
            return
        for answer, instance in list(self._answers.values()):
            if node in (instance.stages[0].node, instance.stages[-1].node):
                answer.break_off("stage_lost", "A machine that runs part of this answer was lost. Send it again.")

    def _tell(self, node: str, message: object) -> None:
        with contextlib.suppress(LinkDown):  # the first stage frees the slot itself when this link is gone
            self._switchboard.send(node, message)

    def _forget(self, request_id: str) -> None:
        self._answers.pop(request_id, None)
        self._retries.pop(request_id, None)


def _check(request: ChatRequest) -> None:
    if len(request.stop) > STOPS_MAX or any(len(stop) > STOP_LENGTH_MAX for stop in request.stop):
        raise BadRequest(f"At most {STOPS_MAX} stop strings of {STOP_LENGTH_MAX} characters can be given.")
    if request.max_tokens is not None and request.max_tokens < 1:
        raise BadRequest("max_tokens must be at least 1.")
    if request.prompt is None and not request.messages:
        raise BadRequest("A conversation needs at least one message.")
    if len(request.messages) > MESSAGES_MAX:
        raise BadRequest(f"A conversation may have at most {MESSAGES_MAX} messages.")
