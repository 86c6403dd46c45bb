"""A pipeline and a node in memory, for tests of what stands before them: HTTP and the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from peerinfer.api.actions import (
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
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.state import ClusterMember, ClusterState, Liveness
from peerinfer.errors import BadRequest, InviteExpired, PairingError, PeerinferError, UnknownModel, WrongDigits
from peerinfer.node.policy import NodePolicy
from peerinfer.pipeline.requests import ChatRequest, Delta

MODEL = "tiny-model"
PROMPT_TOKENS = (1, 2, 3)
STATE = ClusterState("aa" * 16, "bb" * 16, members=(ClusterMember("aa" * 16, "desk", Liveness.ALIVE),))


async def eventually(holds: Callable[[], bool]) -> None:
    """Lets the loop run until `holds` does; the test fails after 10 seconds."""
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


class FakeAnswer:
    """Says `pieces`, one token each; then breaks off with `error`, or finishes. Holds its slot until cancelled."""

    def __init__(self, script: Script, number: int) -> None:
        self.request_id = f"r{number}"
        self.model: str = MODEL
        self.prompt_token_ids: tuple[int, ...] = PROMPT_TOKENS
        self.ttft_ms = 12.5
        self.tokens_per_s = 80.0
        self.token_ids: tuple[int, ...] = ()
        self.cancelled = asyncio.Event()
        self._script = script

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Delta]:
        script = self._script
        for i, text in enumerate(script.pieces):
            self.token_ids = (*self.token_ids, 100 + i)
            last = script.error is None and i == len(script.pieces) - 1
            yield Delta(text, (100 + i,), script.finish if last and not script.hang else None)
            await asyncio.sleep(0)
        if script.error is not None:
            raise script.error
        if script.hang:
            await asyncio.Event().wait()

    async def cancel(self) -> None:
        self.cancelled.set()


@dataclass
class Script:
    """What the fake pipeline does with the next requests."""

    pieces: Sequence[str] = ("Hel", "lo", " \u00e4\u2028\U0001f600")
    finish: str = "stop"
    error: Exception | None = None
    """Raised after the pieces."""
    refusal: PeerinferError | None = None
    """Raised instead of an answer."""
    hang: bool = False
    """No end comes after the pieces."""


@dataclass
class FakeChat:
    """A `ChatService` that follows a script, and remembers what it was asked."""

    script: Script = field(default_factory=Script)
    requests: list[ChatRequest] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)

    async def open(self, request: ChatRequest) -> FakeAnswer:
        self.requests.append(request)
        if self.script.refusal is not None:
            raise self.script.refusal
        if request.model not in {"", MODEL}:
            raise UnknownModel(f"There is no model {request.model!r} here.")
        self.answers.append(FakeAnswer(self.script, len(self.answers)))
        return self.answers[-1]


@dataclass
class FakeNode:
    """`NodeActions` in memory. Joins are told by setting `joiner`."""

    name: str = "desk"
    id: str = "aa" * 16
    loaded: list[str] = field(default_factory=lambda: [MODEL])
    loads: list[LoadWish] = field(default_factory=list)
    plans: list[PlanWish] = field(default_factory=list)
    plan_answer: JsonObject = field(default_factory=dict)
    policy: NodePolicy = field(default_factory=NodePolicy)
    pulls: list[str] = field(default_factory=list)
    imports: list[tuple[str, str]] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    """Pulls and joins whose client went away."""
    members: dict[str, str] = field(default_factory=dict)
    stages: list[JsonObject] = field(default_factory=list)
    nearby: list[JsonObject] = field(default_factory=list)
    load_error: PeerinferError | None = None
    invite_expires: bool = False
    code: str = "482913"
    window_open: bool = False
    joiner: asyncio.Event = field(default_factory=asyncio.Event)
    confirm: bool = False
    """Whether the open window asks."""
    asking: list[Asking | None] = field(default_factory=list)
    """Who asks to come in, in order; None takes the question before it back, and the others wait for its answer."""
    answers: list[tuple[str, bool]] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    joined: list[JoinWish] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """A load, pull or join ends when this is set, if `slow_load`."""
    slow_load: bool = False
    chronicle: Chronicle = field(default_factory=lambda: Chronicle(STATE))

    def status(self) -> JsonObject:
        members = [{"id": self.id, "name": self.name, "state": "alive", "snapshot": {"memory_free_bytes": 8 << 30}}]
        others = [
            {"id": i, "name": n, "state": "alive", "snapshot": {"memory_free_bytes": 4 << 30}}
            for i, n in self.members.items()
        ]
        instances = [
            {"id": "cc" * 16, "model": m, "epoch": [1, self.id, 1], "state": "ready", "stages": self.stages}
            for m in self.loaded
        ]
        return {
            "node": {"id": self.id, "name": self.name, "version": "0.1.0", "engines": ["llama.cpp"]},
            "mesh": {"id": "bb" * 16, "leader": self.id, "ballot": [1, self.id]},
            "members": members + others,
            "nearby": self.nearby,
            "links": [{"from": self.id, "to": i, "rtt_us": 200, "bandwidth_bytes_per_s": 0} for i in self.members],
            "instances": instances,
        }

    async def models(self) -> Sequence[ModelInfo]:
        return [
            ModelInfo(MODEL, "ab" * 32, "llama", 30, 98_000_000, MODEL in self.loaded),
            ModelInfo("torn", "", "", 0, 10, False, problem="torn.gguf ends too early: fetch it again."),
        ]

    async def catalogue(self) -> JsonObject:
        entry = {
            "name": "big:2b",
            "download_bytes": 2_000_000_000,
            "memory_bytes": 2_500_000_000,
            "about": "A big one.",
        }
        huge = {**entry, "name": "huge:70b", "memory_bytes": 900_000_000_000, "about": "For a hall of machines."}
        return {"models": [entry, huge], "problems": []}

    async def pull(self, reference: str, progress: ProgressHandler) -> JsonObject:
        self.pulls.append(reference)
        progress(Progress("Pulling big.gguf of 2.00 GB", 0.25, "big.gguf", 500_000_000, 2_000_000_000))
        try:
            if self.slow_load:
                await self.release.wait()
        except asyncio.CancelledError:
            self.given_up.append(reference)
            raise
        await asyncio.sleep(0)
        if self.load_error is not None:
            raise self.load_error
        return {
            "model": "big:2b",
            "digest": "ef" * 32,
            "size_bytes": 2_000_000_000,
            "licence": "Apache-2.0",
            "source": reference,
        }

    async def import_model(self, folder: str, name: str, progress: ProgressHandler) -> JsonObject:
        self.imports.append((folder, name))
        progress(Progress("Converting big", 0.25))
        await asyncio.sleep(0)
        if self.load_error is not None:
            raise self.load_error
        return {"model": name or "big", "digest": "ef" * 32, "size_bytes": 2_000_000_000, "loss": 0.0052}

    async def remove_model(self, model: str) -> JsonObject:
        if model in self.loaded:
            raise BadRequest(f"{model} is loaded. Run `peerinfer unload {model}` first.")
        return {"model": model, "freed_bytes": 2_000_000_000}

    async def load(self, wish: LoadWish, progress: ProgressHandler) -> JsonObject:
        self.loads.append(wish)
        progress(Progress("writing shards", 0.5))
        if self.slow_load:
            await self.release.wait()
        await asyncio.sleep(0)
        if self.load_error is not None:
            raise self.load_error
        self.loaded.append(wish.model)
        nodes = wish.stages or ((self.id, 0, 30),)
        self.stages = [{"node": node, "engine": "llama.cpp", "layers": [a, b]} for node, a, b in nodes]
        return self.status()["instances"][-1]

    async def plan(self, wish: PlanWish) -> JsonObject:
        self.plans.append(wish)
        if self.load_error is not None:
            raise self.load_error
        return self.plan_answer

    async def config(self, key: str, value: str | None) -> JsonObject:
        if value is not None:
            self.policy = self.policy.with_value(key, value)
        return self.policy.shown()

    async def bench(self, model: str, progress: ProgressHandler) -> JsonObject:
        progress(Progress("Measuring this machine"))
        if model and model not in self.loaded:
            raise UnknownModel(f"There is no model {model}.")
        machine: JsonObject = {
            "devices": ["A processor"],
            "layers": [0, 30],
            "tokens_per_s": 120.0,
            "decode_ms": 5.4,
            "head_ms": 1.2,
            "stage_ms": 0.3,
            "prefill_tokens_per_s": 250.0,
            "weights_bytes_per_s": 14_000_000_000,
            "steps": 16,
        }
        return {"model": MODEL, "machine": machine, "mesh": None}

    async def unload(self, model: str) -> None:
        if model not in self.loaded:
            raise UnknownModel(f"{model} is not loaded.")
        self.loaded.remove(model)

    async def invite(self, confirm: bool) -> OpenInvite:
        self.window_open, self.confirm = True, confirm
        uri = f"peerinfer://join?at=127.0.0.1:9999&mesh={'bb' * 16}&secret={'11' * 16}"
        return OpenInvite(self.code, uri, 9999, 120.0)

    async def invited(self, asking: AskingHandler) -> JsonObject:
        for number, each in enumerate(self.asking, 1):
            self.answered.clear()
            asking(each)
            if each is not None and self.asking[number : number + 1] != [None]:
                await self.answered.wait()
        if self.invite_expires:
            raise InviteExpired("Nobody joined within 120 seconds: run `peerinfer invite` again.")
        await self.joiner.wait()
        return {"node": "dd" * 16, "name": "lap"}

    async def answer(self, node: str, accept: bool) -> JsonObject:
        if node not in {each.node for each in self.asking if each is not None}:
            raise PairingError("That machine does not wait to be let in.")
        self.answers.append((node, accept))
        self.answered.set()
        return {"node": node, "name": "lap", "accepted": accept}

    async def close_invite(self) -> None:
        self.window_open = False

    async def join(self, wish: JoinWish, progress: ProgressHandler) -> JsonObject:
        progress(Progress("pairing"))
        if wish.code.replace("-", "") != self.code.replace("-", ""):
            raise WrongDigits("The six digits do not match.")
        try:
            if self.slow_load:
                await self.release.wait()
        except asyncio.CancelledError:
            self.given_up.append(wish.code)
            raise
        self.joined.append(wish)
        return {"mesh": "bb" * 16, "node": "aa" * 16, "name": "desk"}

    async def remove(self, node: str) -> JsonObject:
        return {"node": "dd" * 16, "name": node}

    async def leave(self) -> JsonObject:
        return {"mesh": "ee" * 16}

    async def down(self) -> None:
        self.stopping.set()
