"""`bench`: how fast this machine, and the mesh, run a model; kept for placement."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from peerinfer.api.client import ApiClient
from peerinfer.cli.models import follow, model_argument
from peerinfer.cli.show import ProgressLine, names_of, result, result_json, table
from peerinfer.cli.verbs import Verbs, add_json, add_verb, with_daemon


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    bench = add_verb(
        verbs,
        "bench",
        "measure how fast this machine and the mesh run a model",
        run_bench,
        "  peerinfer bench                 with the model that is loaded, or the smallest one here\n"
        "  peerinfer bench smollm2 --json",
    )
    bench.add_argument("model", metavar="MODEL", nargs="?", default="", help="a name from `peerinfer models`")
    add_json(bench)


def run_bench(args: argparse.Namespace) -> int:
    """Measures, and prints what came out."""

    async def act(client: ApiClient) -> int:
        with ProgressLine() as line:
            told = await follow(client, "bench", {"model": model_argument(args.model)}, line)
        if args.json:
            result_json(told)
        else:
            result(bench_text(told, names_of(await client.state())))
        return 0

    return with_daemon(args, act)


def bench_text(told: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The object of `bench --json` for a person."""
    machine = told["machine"]
    first, end = machine["layers"]
    prefill = machine["prefill_tokens_per_s"]
    lines = [
        f"This machine ({', '.join(machine['devices'])}), layers {first}-{end} of {told['model']}, one stream:",
        f"  {machine['tokens_per_s']:.1f} tokens/s = layers {machine['decode_ms']:.2f} ms + head "
        f"{machine['head_ms']:.2f} ms + step {machine['stage_ms']:.2f} ms; median of {machine['steps']} real steps",
        f"  weights read at {machine['weights_bytes_per_s'] / 1e9:.1f} GB/s"
        + (f"; prompts at {prefill:.0f} tokens/s" if prefill else ""),
    ]
    mesh = told["mesh"]
    if mesh is None:
        return "\n".join([*lines, "The model is not loaded, so the mesh was not measured: `peerinfer load` loads it."])
    measured, predicted = mesh["measured"], mesh["predicted"]["tokens_per_s"]
    off = f"; predicted {predicted:.1f} ({mesh['error']:+.0%})" if predicted else "; nothing was predicted"
    rows = [
        (
            names.get(one["node"], one["node"]),
            "-".join(map(str, one["layers"])),
            _ms(one, "ms_per_token"),
            _ms(one, "hop_in_ms"),
            _ms(one, "wait_ms"),
        )
        for one in mesh["stages"]
    ]
    lines += [
        f"The mesh, one stream: {measured['tokens_per_s']:.1f} tokens/s, first token after "
        f"{measured['ttft_ms']:.0f} ms{off}",
        table(("NODE", "LAYERS", "ENGINE", "HOP IN", "WAIT"), rows),
    ]
    return "\n".join(lines)


def _ms(stage: Mapping[str, Any], key: str) -> str:
    value = stage.get(key)
    return "-" if value is None else f"{value:.2f} ms"
