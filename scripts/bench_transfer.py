"""Measures how fast a node fetches a model from another, against a plain TLS copy over the same path.

A round: node B, which has nothing of a model, loads all of it, so that its weights come from node A: from the first
question until the last chunk is verified and on B's disk (as B's log says). Then the model's file is copied by two
plain processes, one TLS 1.3 connection over blocking sockets, into a file that is synced. The ratio is the first rate
over the second, of the same round. Both ends are on this machine and share its processors.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.daemons import Daemon, house
from tests.net.mesh import Authority, node_id
from tests.tiny import write_tiny_llama

COPY_BYTES = 1 << 20
FETCHED = re.compile(r"Fetched ([\d.]+) MB of big in ([\d.]+) s")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--layers", type=int, default=4, metavar="N", help="of the model; each has about 134 MB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="peerinfer-bench-") as name:
        rounds = _measure(Path(name), asked.rounds, asked.layers)
    ratios = [fetched / copied for fetched, copied in rounds]
    figures = {
        "fetch_mb_per_s": statistics.median(fetched for fetched, _ in rounds),
        "tls_copy_mb_per_s": statistics.median(copied for _, copied in rounds),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "rounds": len(rounds),
    }
    if asked.json:
        print(json.dumps(figures))
    else:
        print(__doc__)
        print(
            "fetch {fetch_mb_per_s:.0f} MB/s, plain TLS copy {tls_copy_mb_per_s:.0f} MB/s: "
            "ratio {ratio:.2f} (median of {rounds}; {ratio_lowest:.2f} to {ratio_highest:.2f})".format(**figures)
        )
    return 0


def _measure(folder: Path, rounds: int, layers: int) -> list[tuple[float, float]]:
    model = write_tiny_llama(folder / "big.gguf", layers=layers, width=2048, heads=16, kv_heads=8)
    daemons = house(folder, ["a", "b"], [])
    try:
        giver, taker = daemons
        giver.verb("load", str(model), "--stages", f"a:0-{layers}", "--context", "64", "--slots", "1")
        giver.run("unload", "big")
        taker.until("the model is known", _knows)
        return [(_fetch(taker, layers), _copy(model, folder / "copy")) for _ in range(rounds)]
    finally:
        for daemon in daemons:
            daemon.stop()


def _knows(state: dict[str, Any]) -> bool:
    return '"big"' in json.dumps(state)


def _fetch(taker: Daemon, layers: int) -> float:
    """MB per second."""
    before = len(FETCHED.findall((taker.home / "log").read_text()))
    taker.verb("load", "big", "--stages", f"b:0-{layers}", "--context", "64", "--slots", "1")
    taker.run("unload", "big")
    taker.run("rm", "big")
    fetched = FETCHED.findall((taker.home / "log").read_text())[before:]
    megabytes, seconds = max(fetched, key=lambda pair: float(pair[0]))
    return float(megabytes) / float(seconds)


def _copy(model: Path, target: Path) -> float:
    """MB per second of a plain TLS copy: a child sends, this process writes."""
    authority = Authority()
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork() if hasattr(os, "fork") else -1
    if pid < 0:
        raise SystemExit("This bench needs fork: run it on Linux or macOS.")
    if pid == 0:
        try:
            _send(listener, authority.trust(node_id(1)).server_context(), model)
        finally:
            os._exit(0)
    began = time.monotonic()
    size = _receive(listener.getsockname(), authority.trust(node_id(2)).client_context(), target)
    took_s = time.monotonic() - began
    os.waitpid(pid, 0)
    listener.close()
    return size / 1e6 / took_s


def _send(listener: socket.socket, context: ssl.SSLContext, model: Path) -> None:
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True) as secured, model.open("rb") as file:
        while piece := file.read(COPY_BYTES):
            secured.sendall(piece)


def _receive(address: tuple[str, int], context: ssl.SSLContext, target: Path) -> int:
    size = 0
    buffer = memoryview(bytearray(COPY_BYTES))
    with socket.create_connection(address) as plain, context.wrap_socket(plain) as secured, target.open("wb") as file:
        while count := secured.recv_into(buffer):
            file.write(buffer[:count])
            size += count
        file.flush()
        os.fsync(file.fileno())
    return size


if __name__ == "__main__":
    sys.exit(main())
