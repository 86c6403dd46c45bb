"""`pull` and `rm`: which models lie on this machine."""

from __future__ import annotations

import argparse

from peerinfer.api.client import ApiClient
from peerinfer.cli.models import follow, model_argument
from peerinfer.cli.show import ProgressLine, note, result, result_json, size
from peerinfer.cli.verbs import Verbs, add_json, add_verb, with_daemon


def add(verbs: Verbs) -> None:
    """Declares the verbs of this file."""
    pull = add_verb(
        verbs,
        "pull",
        "bring a model to this machine; the other machines take their layers from here",
        run_pull,
        "  peerinfer pull qwen3:4b                              from the catalogue: peerinfer models --catalogue\n"
        "  peerinfer pull hf:ggml-org/Qwen3-4B-GGUF:Q4_K_M      any GGUF of the Hugging Face hub\n"
        "  peerinfer pull https://example.org/a.gguf#sha256=…   a file from the web, with its digest",
    )
    pull.add_argument("reference", metavar="REF", help="a short name, hf:OWNER/REPO[:QUANT], an https: address, a path")
    add_json(pull)
    remove = add_verb(verbs, "rm", "remove a model from this machine", run_rm)
    remove.add_argument("model", metavar="MODEL", help="its name, as in `peerinfer models`")
    add_json(remove)


def run_pull(args: argparse.Namespace) -> int:
    """Brings a model here."""

    async def act(client: ApiClient) -> int:
        with ProgressLine() as line:
            pulled = await follow(client, "pull", {"reference": model_argument(args.reference)}, line)
        if args.json:
            result_json(pulled)
            return 0
        licence = f" Licence: {pulled['licence']}." if pulled["licence"] else ""
        result(f"{pulled['model']} is here ({size(pulled['size_bytes'])}).{licence}")
        note(f"Load it with `peerinfer load {pulled['model']}`.")
        return 0

    return with_daemon(args, act)


def run_rm(args: argparse.Namespace) -> int:
    """Removes a model."""

    async def act(client: ApiClient) -> int:
        removed = await client.act("rm", {"model": args.model})
        if args.json:
            result_json(removed)
        else:
            result(f"{removed['model']} is removed; {size(removed['freed_bytes'])} became free.")
        return 0

    return with_daemon(args, act)
