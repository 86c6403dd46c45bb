"""Does a mesh keep what its leader promises?

Three real daemons, each in a network namespace on a line of its own rate and with its own number of threads, load the
bundled model once, so that every machine is measured, and wait until every link is. Then the model is placed anew in
several splits. For each, the tokens per second that the leader predicted when it placed it are held against the median
of what one stream gets. Linux, as root.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

from drill_figures import answer
from drill_hosts import BRIDGE_NETNS, Condition, Host, Lan, measured_alone, run
from drill_meshes import MODEL, PROMPT, Meshes

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject

RATES: Final = ("1gbit", "100mbit", "20mbit")
THREADS: Final = (1, 2, 1)
SPLITS: Final = ((10, 20), (20, 25), (5, 15))
"""Layers at which the second and the third stage begin."""
LAYERS: Final = 30
TOKENS: Final = 64
LINKS_S: Final = 90.0
ANSWER_S: Final = 120.0


def main() -> int:
    """Returns the exit status: 1 if a median is further off than `--within`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="answers for each split")
    parser.add_argument("--within", type=float, default=0.15, metavar="SHARE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    rows = measured_alone(lambda: _measure(asked.rounds))
    if rows is None:
        return 1
    if asked.json:
        print(json.dumps({"splits": rows}))
    else:
        print(__doc__)
        for row in rows:
            print("{split}: predicted {predicted:.1f}, measured {measured:.1f} tokens/s, {error:+.1%}".format(**row))
            print("    predicted parts: {parts}; measured: {stages}".format(**row))
    return 0 if all(abs(row["error"]) <= asked.within for row in rows) else 1


def _measure(rounds: int) -> list[JsonObject]:
    with Lan(len(RATES)) as hosts:
        for host, rate, threads in zip(hosts, RATES, THREADS, strict=True):
            host.threads = threads
            for netns, device in ((host.netns, "eth0"), (BRIDGE_NETNS, f"port{host.address.rpartition('.')[2]}")):
                run("ip", "-n", netns, "link", "set", device, "gso_max_size", "16000")  # below the bucket of tbf
                shape = ("root", "tbf", "rate", rate, "burst", "32kb", "latency", "50ms")
                run("ip", "netns", "exec", netns, "tc", "qdisc", "add", "dev", device, *shape)
        Meshes(lambda text: print(text, file=sys.stderr)).form(hosts)
        first = hosts[0]
        _load(hosts, SPLITS[0])
        _answer(first)
        first.watch(LINKS_S, _knows_links(len(hosts))).result()
        return [_row(hosts, split, rounds) for split in SPLITS]


def _knows_links(count: int) -> Condition:
    def knows(state: JsonObject) -> bool:
        known = [link for link in state["links"] if link["bandwidth_bytes_per_s"]]
        return len(known) == count * (count - 1)

    return knows


def _row(hosts: Sequence[Host], split: tuple[int, ...], rounds: int) -> JsonObject:
    _unload(hosts)
    _load(hosts, split)
    instance = _instance(hosts[0])
    predicted = instance["predicted"]
    speeds = [_answer(hosts[0]) for _ in range(rounds)]
    measured = statistics.median(speeds)
    after = _instance(hosts[0])
    return {
        "split": "/".join(str(end - start) for start, end in zip((0, *split), (*split, LAYERS), strict=True)),
        "predicted": predicted["tokens_per_s"] or 0.0,
        "measured": measured,
        "error": measured / predicted["tokens_per_s"] - 1 if predicted["tokens_per_s"] else 1.0,
        "speeds": [round(speed, 2) for speed in speeds],
        "parts": predicted["bottleneck"],
        "stages": ", ".join(f"{one['ms_per_token']} + {one['hop_in_ms']} ms" for one in after["stages"]),
    }


def _load(hosts: Sequence[Host], split: tuple[int, ...]) -> None:
    bounds = (0, *split, LAYERS)
    stages = ",".join(f"{host.node_name}:{bounds[n]}-{bounds[n + 1]}" for n, host in enumerate(hosts))
    hosts[0].peerinfer("load", MODEL, "--stages", stages, "--context", "1024", "--slots", "1")


def _unload(hosts: Sequence[Host]) -> None:
    hosts[0].peerinfer("unload", MODEL)
    for host in hosts:
        host.watch(ANSWER_S, lambda state: not state["instances"]).result()


def _answer(host: Host) -> float:
    """Tokens per second of one stream, as its gateway measured it."""

    turns = [{"role": "user", "content": PROMPT}]
    body: JsonObject = {"model": MODEL, "messages": turns, "max_tokens": TOKENS, "temperature": 0, "seed": 1}

    async def ask(client: ApiClient) -> int:
        _, ids = await answer(client, body)
        return len(ids)

    host.ask(ask, ANSWER_S).result()
    time.sleep(0.6)  # until the state tells of it
    return float(_instance(host)["measured"]["tokens_per_s"])


def _instance(host: Host) -> JsonObject:
    async def ask(client: ApiClient) -> JsonObject:
        return await client.state()

    instances = host.ask(ask, ANSWER_S).result()["instances"]
    return next(one for one in instances if one["state"] == "ready")


if __name__ == "__main__":
    raise SystemExit(main())
