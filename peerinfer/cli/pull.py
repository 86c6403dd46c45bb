"""`pull` and `rm`: which models lie on this machine."""

from __future__ import annotations

import argparse

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.cli.models import model_argument
from peerinfer.cli.show import ProgressLine, note, result, result_json, size
from peerinfer.cli.transfer import TransferLine
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
        pulled = await _follow(client, model_argument(args.reference))
        if args.json:
            result_json(pulled)
            return 0
        licence = f" Licence: {pulled['licence']}." if pulled["licence"] else ""
        result(f"{pulled['model']} is here ({size(pulled['size_bytes'])}).{licence}")
        note(f"Load it with `peerinfer load {pulled['model']}`.")
        return 0

    return with_daemon(args, act)


async def _follow(client: ApiClient, reference: str) -> JsonObject:
    """Runs a pull to its end: a bar while bytes come, then what else is done. Returns its result."""
    with ProgressLine() as line, TransferLine() as bar:
        async for message in client.follow("pull", {"reference": reference}):
            if "result" in message:
                return message["result"]
            told = message["progress"]
            if told["file"]:
                bar.show(told["file"], told["done_bytes"], told["total_bytes"])
            else:
                line.show(told["text"], told["share"])
    return {}


def run_rm(args: argparse.Namespace) -> int:
    """Removes a model."""

    async def act(client: ApiClient) -> int:
        removed = await client.act("rm", {"model": args.model})
        if args.json:
            result_json(removed)
        else:
            freed = removed["freed_bytes"]
            how = f"removed; {size(freed)} became free" if freed else "forgotten; its file stays where it is"
            result(f"{removed['model']} is {how}.")
        return 0

    return with_daemon(args, act)
