"""`import`: a model in MLX's own format becomes one that every engine runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from peerinfer.api.client import ApiClient
from peerinfer.cli.models import follow
from peerinfer.cli.show import ProgressLine, note, result, result_json, size
from peerinfer.cli.verbs import Verbs, add_json, add_verb, with_daemon


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    parser = add_verb(
        verbs,
        "import",
        "take in a folder with a model in MLX's format (config.json, *.safetensors, tokenizer.json), as a GGUF file",
        run_import,
        "  peerinfer import ~/models/Qwen3-4B-4bit                  under the name of the folder\n"
        "  peerinfer import ~/models/Qwen3-4B-4bit --name qwen3-mlx",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="as the MLX community publishes models")
    parser.add_argument("--name", default="", metavar="NAME", help="what to call it (default: as the folder)")
    add_json(parser)


def run_import(args: argparse.Namespace) -> int:
    """Has the node convert a folder, which is left as it is."""
    folder = args.folder.expanduser().absolute()  # the daemon runs in another folder

    async def act(client: ApiClient) -> int:
        with ProgressLine() as line:
            made = await follow(client, "import", {"folder": str(folder), "name": args.name}, line)
        if args.json:
            result_json(made)
            return 0
        result(f"{made['model']} is here ({size(made['size_bytes'])}). {loss_text(made['loss'])}")
        note(f"Load it with `peerinfer load {made['model']}`.")
        return 0

    return with_daemon(args, act)


def loss_text(loss: float) -> str:
    """What the conversion lost, as a sentence; `loss` is relative to the weights."""
    if loss == 0:
        return "Its weights are exactly those of the folder."
    return f"Its weights are off by {loss:.2g} of their size (root of the mean square)."
