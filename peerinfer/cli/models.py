"""`models`, `load` and `unload`: which models there are, and which of them run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from peerinfer.api.admin import CONTEXT_MAX, LAYERS_MAX, NODES_MAX, POLICIES, SLOTS_MAX
from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.cli.architectures import show_architectures
from peerinfer.cli.catalogue import show_catalogue
from peerinfer.cli.show import ProgressLine, names_of, note, result, result_json, size, stages_text, table
from peerinfer.cli.verbs import Verbs, add_json, add_verb, whole_number, with_daemon


def add(verbs: Verbs) -> None:
    """Declares the verbs of this file."""
    models = add_verb(verbs, "models", "list the models that this node knows", run_models)
    models.add_argument(
        "--architectures", action="store_true", help="list the kinds of models that can be split, and where"
    )
    models.add_argument("--catalogue", action="store_true", help="list what `peerinfer pull` knows by a short name")
    add_json(models)
    load = add_verb(
        verbs,
        "load",
        "load a model, split over the nodes of the mesh",
        run_load,
        "  peerinfer load smollm2\n"
        "  peerinfer load ~/models/big.gguf --context 8192 --min-nodes 2\n"
        '  peerinfer load smollm2 --stages "desk:0-15,lap:15-30"     layers 0 to 14 on desk, 15 to 29 on lap',
    )
    load.add_argument("model", metavar="MODEL", help="a name from `peerinfer models`, a .gguf file, or hf:OWNER/REPO")
    load.add_argument(
        "--context",
        type=whole_number(1, CONTEXT_MAX),
        default=None,
        metavar="N",
        help="tokens per request (4096, or fewer where they do not fit)",
    )
    load.add_argument(
        "--slots",
        type=whole_number(1, SLOTS_MAX),
        default=None,
        metavar="N",
        help="requests answered at once (4, or fewer where they do not fit)",
    )
    load.add_argument(
        "--policy",
        choices=POLICIES,
        default="latency",
        help="what the split is best for: one fast answer, many at once, or little memory on each node",
    )
    load.add_argument(
        "--min-nodes", type=whole_number(1, NODES_MAX), default=1, metavar="N", help="split over at least N nodes"
    )
    load.add_argument(
        "--stages", type=_stages, default=[], metavar="SPEC", help='fix the split, such as "desk:0-15,lap:15-30"'
    )
    add_json(load)
    unload = add_verb(verbs, "unload", "free the memory of a model on all nodes", run_unload)
    unload.add_argument("model", metavar="MODEL", help="its name, as in `peerinfer status`")


def run_models(args: argparse.Namespace) -> int:
    """Lists the models, the architectures, or the catalogue."""
    if args.architectures:
        return show_architectures(args.json)
    if args.catalogue:
        return show_catalogue(args)

    async def act(client: ApiClient) -> int:
        body = await client.act("models")
        if args.json:
            result_json(body)
            return 0
        sound = [model for model in body["models"] if not model["problem"]]
        rows = [(m["name"], m["architecture"], str(m["layers"]), size(m["size_bytes"]), _state(m)) for m in sound]
        if not body["models"]:
            result("There are no models here yet. `peerinfer models --catalogue` lists some to pull.")
            return 0
        result(table(("MODEL", "ARCHITECTURE", "LAYERS", "SIZE", ""), rows))
        for model in body["models"]:
            if model["problem"]:
                note(f"{model['name']} cannot be used: {model['problem']}")
        return 0

    return with_daemon(args, act)


def run_load(args: argparse.Namespace) -> int:
    """Loads a model and waits until it is ready."""
    wish = {
        "model": model_argument(args.model),
        "context": args.context,
        "slots": args.slots,
        "policy": args.policy,
        "min_nodes": args.min_nodes,
        "stages": args.stages,
    }

    async def act(client: ApiClient) -> int:
        with ProgressLine() as line:
            instance = await follow(client, "load", wish, line)
        if args.json:
            result_json(instance)
        else:
            names = names_of(await client.state())
            result(f"{instance['model']} is ready. Layers: {stages_text(instance['stages'], names)}.")
        return 0

    return with_daemon(args, act)


def run_unload(args: argparse.Namespace) -> int:
    """Lets a model go."""

    async def act(client: ApiClient) -> int:
        await client.act("unload", {"model": args.model})
        result(f"{args.model} is unloaded.")
        return 0

    return with_daemon(args, act)


def _state(model: JsonObject) -> str:
    parts = ["loaded"] if model["loaded"] else []
    parts += [] if model["here"] else ["in part"] if model["size_bytes"] else ["on other nodes"]
    return ", ".join(parts)


async def follow(client: ApiClient, action: str, body: JsonObject, line: ProgressLine) -> JsonObject:
    """Runs a long action to its end and shows its progress. Returns its result."""
    outcome: JsonObject = {}
    async for message in client.follow(action, body):
        if "progress" in message:
            line.show(message["progress"]["text"], message["progress"]["share"])
        else:
            outcome = message["result"]
    return outcome


def model_argument(text: str) -> str:
    """A file is named by its absolute path: the daemon runs in another folder."""
    path = Path(text).expanduser()
    return str(path.absolute()) if text.lower().endswith(".gguf") and path.is_file() else text


def _stages(text: str) -> list[list[Any]]:
    """`NODE:0-15,NODE:15-30` as the API wants it."""
    return [_stage(part.strip()) for part in text.split(",")]


def _stage(text: str) -> list[Any]:
    node, _, layers = text.rpartition(":")
    first, dash, end = layers.partition("-")
    if not (node and dash and first.isdecimal() and end.isdecimal()) or not int(first) < int(end) <= LAYERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a stage: write NODE:FIRST-END, such as desk:0-15")
    return [node, int(first), int(end)]
