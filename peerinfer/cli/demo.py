"""`demo`: several nodes on this machine pair, split a model and answer once, by the same means as on real machines."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peerinfer.api.replies import JsonObject
from peerinfer.cli.background import NODE_COMMAND
from peerinfer.cli.demo_nodes import DemoNode, DemoNodes, pair
from peerinfer.cli.demo_report import hops_of, is_measured, report
from peerinfer.cli.models import follow
from peerinfer.cli.show import ProgressLine, note, result_json
from peerinfer.cli.verbs import Verbs, add_json, add_verb, whole_number
from peerinfer.cli.waiting import until
from peerinfer.engine.kinds import ENGINES, LLAMA
from peerinfer.errors import BadRequest, PeerinferError

NODES = 3
NODES_MAX = 16
"""Daemons on one machine; more only wait for each other's processor."""
PROMPT = "Why is the sky blue? Answer in one or two sentences."
MAX_TOKENS = 64
CONTEXT = 4096
SLOTS = 1
"""One answer at a time is all that is shown, and each slot is a KV cache on every stage."""
SEE_EACH_OTHER_S = 30.0
ENGINE_S = 30.0
"""Until a node has imported MLX and tried it."""
MEASURE_S = 4.0
"""Measured times travel with the nodes' snapshots, which are sent every two seconds."""


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    demo = add_verb(
        verbs,
        "demo",
        "start nodes on this machine, pair them, split a model over them, answer once, stop them",
        run_demo,
        '  peerinfer demo\n  peerinfer demo --nodes 2 --cuts 20 --prompt "Tell me a joke." --max-tokens 100\n'
        "  peerinfer demo --json --keep",
    )
    demo.add_argument("--nodes", type=whole_number(1, NODES_MAX), metavar="N", help=f"how many ({NODES})")
    demo.add_argument("--model", default="", help="a name or a .gguf file (default: the model that is bundled)")
    demo.add_argument("--cuts", type=_cuts, metavar="5,11", help="where to cut: here layers 0-4, 5-10, and the rest")
    demo.add_argument(
        "--engines", type=_engines, metavar="llama,mlx", help="the engine of each node, in order (default: its own)"
    )
    demo.add_argument("--prompt", default=PROMPT, metavar="TEXT", help="what to ask")
    demo.add_argument(
        "--max-tokens", type=whole_number(1, 1 << 20), default=MAX_TOKENS, metavar="N", help=f"at most ({MAX_TOKENS})"
    )
    demo.add_argument("--keep", action="store_true", help="leave the nodes running, and print their addresses")
    add_json(demo)
    demo.set_defaults(parser=demo)


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the demo shall show."""

    nodes: int
    model: str
    cuts: tuple[int, ...]
    prompt: str
    max_tokens: int
    keep: bool
    command: Sequence[str] = NODE_COMMAND
    """Starts one daemon."""
    engines: tuple[str, ...] = ()
    """One for each node; empty leaves it to them."""


def run_demo(args: argparse.Namespace) -> int:
    """Runs the demo and prints what it showed."""
    cuts: tuple[int, ...] = args.cuts or ()
    engines: tuple[str, ...] = args.engines or ()
    nodes = args.nodes or (len(cuts) + 1 if cuts else len(engines) or NODES)
    if nodes > NODES_MAX:
        args.parser.error(f"{nodes} nodes are too many for one machine: at most {NODES_MAX}")
    if engines and len(engines) != nodes:
        args.parser.error(f"--engines: {nodes} nodes take {nodes} engines, not {len(engines)}")
    if cuts and len(cuts) != nodes - 1:
        args.parser.error(f"--cuts: {nodes} nodes take {nodes - 1} cuts, not {len(cuts)}")
    plan = DemoPlan(nodes, args.model, cuts, args.prompt, args.max_tokens, args.keep, engines=engines)
    shown = asyncio.run(_until_terminated(plan, quiet=args.json))
    if args.json:
        result_json(shown)
    return 0


async def _until_terminated(plan: DemoPlan, quiet: bool) -> JsonObject:
    """SIGTERM ends the demo as Ctrl-C does: nodes first. (Windows has no such signal to wait for.)"""
    task = asyncio.create_task(show_demo(plan, quiet))
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def show_demo(plan: DemoPlan, quiet: bool) -> JsonObject:
    """The whole demo. Returns the object of `demo --json`; unless `quiet`, prints the answer as it comes."""
    model_file = _model_file(plan.model)
    async with DemoNodes(plan.nodes, plan.command) as all_nodes:
        note(f"Starting {plan.nodes} nodes on this machine ...")
        try:
            nodes = await all_nodes.start(model_file)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        await _choose(nodes, plan.engines)
        await _pair(nodes)
        model = await _load(nodes, plan, model_file)
        shown = await _ask(nodes[0], plan, model, quiet)
        states = await _states(nodes, model)
        shown |= hops_of(states, model)
        if not quiet:
            report(shown, states[0])
        if plan.keep:
            all_nodes.keep()
            shown["nodes"] = [
                {"name": node.name, "api": node.client.record.api, "home": str(node.home)} for node in nodes
            ]
            for node in nodes:
                note(f"{node.name} answers at http://{node.client.record.api}; `peerinfer down --home {node.home}`")
    return shown


def _model_file(model: str) -> Path | None:
    """The file that `--model` names, if it names one. Raises `BadRequest` if it is not there."""
    if not model.lower().endswith(".gguf"):
        return None
    file = Path(model).expanduser().absolute()
    if not file.is_file():
        raise BadRequest(f"There is no file {file}: name a .gguf file, or a model of `peerinfer models`.")
    return file


async def _choose(nodes: Sequence[DemoNode], engines: Sequence[str]) -> None:
    """Sets each node's engine, and waits until the node says that it runs layers with it."""
    for node, engine in zip(nodes, engines, strict=False):
        note(f"{node.name} runs its layers in {engine} ...")
        await node.client.act("config", {"key": "engines", "value": engine})

        async def has_it(node: DemoNode = node, engine: str = engine) -> bool:
            state = await node.client.state()
            told = [each["snapshot"] for each in state["members"] if each["id"] == state["node"]["id"]]
            for trouble in told[0]["troubles"] if told and told[0] else ():
                if trouble["probe"] == engine:
                    raise PeerinferError(trouble["reason"])
            return state["node"]["engines"] == [engine]

        try:
            await until(has_it, ENGINE_S)
        except TimeoutError:
            raise PeerinferError(f"{engine} was not ready on {node.name} within {ENGINE_S:.0f} seconds.") from None


async def _pair(nodes: Sequence[DemoNode]) -> None:
    """Each joins the first, by an invitation as a person would."""
    host, *others = nodes
    for guest in others:
        note(f"Pairing {guest.name} with {host.name} ...")
        await pair(host.client, guest.client)
    await _until_all_see_all(nodes)


async def _until_all_see_all(nodes: Sequence[DemoNode]) -> None:
    """A split needs the memory of all nodes, so all have to be heard of."""

    async def all_heard() -> bool:
        states = [await node.client.state() for node in nodes]
        return all(_heard(state) == len(nodes) for state in states)

    try:
        await until(all_heard, SEE_EACH_OTHER_S)
    except TimeoutError:
        raise PeerinferError(f"The nodes did not all see each other within {SEE_EACH_OTHER_S:.0f} seconds.") from None


def _heard(state: JsonObject) -> int:
    """Members whose snapshot is here, if there is a leader who could place something on them."""
    alive = [member for member in state["members"] if member["state"] == "alive" and member["snapshot"]]
    return len(alive) if state["mesh"]["leader"] else 0


async def _load(nodes: Sequence[DemoNode], plan: DemoPlan, model_file: Path | None) -> str:
    """Loads the model over all nodes; returns its name."""
    first = nodes[0].client
    sound = [model for model in (await first.act("models"))["models"] if not model["problem"]]
    wanted = "-".join(model_file.stem.lower().split()) if model_file is not None else plan.model.lower()
    found = [model for model in sound if model["name"].startswith(wanted)]
    if not found:
        names = ", ".join(model["name"] for model in sound) or "none"
        raise BadRequest(f"There is no model {wanted or 'bundled'!r}: run scripts/setup, or name one of: {names}.")
    name = found[0]["name"]
    wish: JsonObject = {"model": name, "context": CONTEXT, "slots": SLOTS, "min_nodes": len(nodes)}
    if plan.cuts or plan.engines:  # engines are named in the order of the layers
        layers = found[0]["layers"]
        cuts = plan.cuts or [number * layers // len(nodes) for number in range(1, len(nodes))]
        edges = (0, *cuts, layers)
        ids = [(await node.client.state())["node"]["id"] for node in nodes]
        wish["stages"] = [[node, a, b] for node, a, b in zip(ids, edges, edges[1:], strict=False)]
    note(f"Loading {name} over {len(nodes)} nodes ...")
    with ProgressLine() as line:
        instance = await follow(first, "load", wish, line)
    return instance["model"]


async def _ask(node: DemoNode, plan: DemoPlan, model: str, quiet: bool) -> JsonObject:
    """One greedy answer: text, token ids and times."""
    note(f"Asking {node.name}: {plan.prompt}")
    body = {
        "model": model,
        "messages": [{"role": "user", "content": plan.prompt}],
        "temperature": 0,
        "max_tokens": plan.max_tokens,
        "peerinfer": True,
    }
    pieces: list[str] = []
    details: JsonObject = {}
    async for chunk in node.client.chat(body):
        for choice in chunk["choices"]:
            pieces.append(choice["delta"].get("content", ""))
            if not quiet:
                print(pieces[-1], end="", flush=True)
        details = chunk.get("peerinfer", details)
    if not quiet:
        print("\n", flush=True)
    return {"text": "".join(pieces), **details, "model": model}


async def _states(nodes: Sequence[DemoNode], model: str) -> list[JsonObject]:
    """What each node knows, once the measured times have come round, or after `MEASURE_S` without them."""

    async def measured() -> bool:
        return is_measured(await nodes[0].client.state(), model)

    with contextlib.suppress(TimeoutError):
        await until(measured, MEASURE_S)
    return [await node.client.state() for node in nodes]


def _engines(text: str) -> tuple[str, ...]:
    names = {"llama": LLAMA, **{name: name for name in ENGINES}}
    parts = [part.strip().lower() for part in text.split(",")]
    if any(part not in names for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} are not engines: write one for each node, such as llama,mlx,llama")
    return tuple(names[part] for part in parts)


def _cuts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    cuts = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(cuts) != len(parts) or cuts != sorted(set(cuts)) or cuts[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} are not cuts: write rising layer numbers, such as 5,11")
    return tuple(cuts)
