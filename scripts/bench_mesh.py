"""The bench's own side: real daemons on loopback, paired and linked by mutual TLS, asked through the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerinfer.api.replies import JsonObject
from peerinfer.cli.background import NODE_COMMAND
from peerinfer.cli.demo_nodes import DemoNode, pair
from peerinfer.cli.waiting import until
from peerinfer.errors import PeerinferError

SEE_EACH_OTHER_S = 60.0
FIT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Answered:
    """One streamed answer as its reader saw it. Times are seconds of `time.perf_counter`."""

    prompt_ids: list[int]
    token_ids: list[int]
    ring_tokens_per_s: float
    """As the gateway measured it, before HTTP."""
    asked: float
    arrivals: list[float]
    """When each event with text came; one token each, but for texts that end within a character."""
    ended: float

    @property
    def first_ms(self) -> float:
        """From the request to the first text."""
        return (self.arrivals[0] - self.asked) * 1e3

    @property
    def ms_per_token(self) -> float:
        """After the first token."""
        return (self.ended - self.arrivals[0]) / (len(self.token_ids) - 1) * 1e3


class BenchMesh:
    """Paired daemons with one model over all of them."""

    def __init__(self, nodes: Sequence[DemoNode], model: str, layers: int) -> None:
        self.nodes = nodes
        self.model = model
        self.layers = layers

    async def ask(self, text: str, max_tokens: int) -> Answered:
        """One greedy answer through HTTP streaming at the first node. Raises `PeerinferError` if it is cut short."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": max_tokens,
            "peerinfer": True,
        }
        details: JsonObject = {}
        arrivals: list[float] = []
        asked = ended = time.perf_counter()
        async for chunk in self.nodes[0].client.chat(body):
            ended = time.perf_counter()
            choice = chunk["choices"][0]
            if choice["delta"].get("content"):
                arrivals.append(ended)
            details = chunk.get("peerinfer", details)
        ids = details["token_ids"]
        if len(ids) != max_tokens:
            raise PeerinferError(f"The model ended its answer after {len(ids)} of {max_tokens} tokens: change PROMPT.")
        return Answered(details["prompt_token_ids"], ids, details["tokens_per_s"], asked, arrivals, ended)

    async def ask_together(self, text: str, max_tokens: int, streams: int) -> float:
        """Tokens per second of `streams` answers together, counted while all of them are being decoded."""
        answers = await asyncio.gather(*(self.ask(text, max_tokens) for _ in range(streams)))
        start = max(answer.arrivals[0] for answer in answers)
        end = min(answer.arrivals[-1] for answer in answers)
        tokens = sum(
            sum(start < at <= end for at in answer.arrivals) * len(answer.token_ids) / len(answer.arrivals)
            for answer in answers
        )
        if end <= start:
            raise PeerinferError(f"{streams} answers of {max_tokens} tokens were never decoded all at once.")
        return tokens / (end - start)

    async def text_of(self, tokens: int) -> str:
        """A question that the model's template makes a prompt of exactly so many tokens."""
        words = tokens
        for _ in range(FIT_TRIES):
            text = " sky" * words
            length = len((await self.ask(text, 1)).prompt_ids)
            if length == tokens:
                return text
            words += tokens - length
        raise PeerinferError(f"No prompt of exactly {tokens} tokens was found.")

    async def times(self) -> list[dict[str, Any]]:
        """Where the time of each stage goes, in order of stages; see `pipeline/times.py`."""
        stages = [stage for node in self.nodes for stage in (await node.client.state())["local"]["stages"]]
        return sorted(stages, key=lambda stage: stage["stage"])


@contextlib.asynccontextmanager
async def mesh(bundled: Path, count: int, *, threads: int, context: int, slots: int) -> AsyncGenerator[BenchMesh]:
    """`count` daemons with the bundled model cut evenly; they are ended and their homes removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="peerinfer-bench-"))
    nodes = [DemoNode(f"bench-{i + 1}", folder, NODE_COMMAND, threads) for i in range(count)]
    try:
        for node in nodes:
            await node.start(None)
        for guest in nodes[1:]:
            await pair(nodes[0].client, guest.client)
        await until(lambda: _all_seen(nodes), SEE_EACH_OTHER_S)
        name, layers = await _load(nodes, bundled, context, slots)
        yield BenchMesh(nodes, name, layers)
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))
        shutil.rmtree(folder, ignore_errors=True)


async def _all_seen(nodes: Sequence[DemoNode]) -> bool:
    states = [await node.client.state() for node in nodes]
    return all(
        state["mesh"]["leader"]
        and sum(member["state"] == "alive" and bool(member["snapshot"]) for member in state["members"]) == len(nodes)
        for state in states
    )


async def _load(nodes: Sequence[DemoNode], file: Path, context: int, slots: int) -> tuple[str, int]:
    first = nodes[0].client
    listed = (await first.act("models"))["models"]
    model = next(each for each in listed if each["name"] == file.stem.lower())
    edges = [model["layers"] * i // len(nodes) for i in range(len(nodes) + 1)]
    ids = [(await node.client.state())["node"]["id"] for node in nodes]
    stages = [[node, *cut] for node, *cut in zip(ids, edges, edges[1:], strict=False)]
    wish = {"model": model["name"], "context": context, "slots": slots, "stages": stages}
    async for _ in first.follow("load", wish):
        pass
    return model["name"], model["layers"]
