"""Measures how fast nodes fetch their layers from another, against a plain TLS copy over the same path.

Three hosts in network namespaces, each with a line of `--rate` in and out; one has a model's file. A round: the model
is loaded over all three, so that the other two fetch their layers, at once, from the one (from the first question
until the last chunk is verified and on their disks, as their logs say; rate: bytes of both over the time of the
slower). Then as many bytes are copied over the same lines by plain processes: two TLS 1.3 connections over blocking
sockets, into files that are synced. The ratio is the first rate over the second, of the same round. All run on one
machine and share its processors. Linux, as root.
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
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drill_figures import results, wait_for
from drill_hosts import Host, Lan, measured_alone, run
from drill_meshes import Meshes

from tests.net.mesh import Authority, node_id
from tests.tiny import write_tiny_llama

COPY_BYTES = 1 << 20
PORT = 7000
WAIT_S = 60.0
FETCHED = re.compile(r"Fetched ([\d.]+) MB of big in ([\d.]+) s")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--rate", default="1gbit", metavar="RATE", help="of each line, as tc writes it; 0: no limit")
    parser.add_argument("--layers", type=int, default=6, metavar="N", help="of the model; each has about 134 MB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    rounds = measured_alone(lambda: _measure(asked.rounds, asked.rate, asked.layers))
    if rounds is None:
        return 1
    ratios = [fetched / copied for fetched, copied in rounds]
    figures: dict[str, object] = {
        "rate": asked.rate,
        "fetch_mb_per_s": round(statistics.median(fetched for fetched, _ in rounds), 1),
        "tls_copy_mb_per_s": round(statistics.median(copied for _, copied in rounds), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_lowest": round(min(ratios), 2),
        "ratio_highest": round(max(ratios), 2),
        "rounds": len(rounds),
    }
    if asked.json:
        print(json.dumps(figures))
    else:
        print(__doc__)
        print(
            "fetch {fetch_mb_per_s} MB/s, plain TLS copy {tls_copy_mb_per_s} MB/s: ratio {ratio} (median of {rounds}; "
            "{ratio_lowest} to {ratio_highest}) at {rate}".format(**figures)
        )
    return 0


def _measure(rounds: int, rate: str, layers: int) -> list[tuple[float, float]]:
    with Lan(3) as hosts:
        for host in hosts if rate != "0" else ():
            for netns, device in ((host.netns, "eth0"), ("pi-drill-net", f"port{host.address.rpartition('.')[2]}")):
                shape = ("root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms")
                run("ip", "netns", "exec", netns, "tc", "qdisc", "add", "dev", device, *shape)
        meshes = Meshes(lambda text: print(text, file=sys.stderr))
        meshes.form(hosts)
        giver, *takers = hosts
        model = write_tiny_llama(giver.home.parent / "big.gguf", layers=layers, width=2048, heads=16, kv_heads=8)
        third = layers // 3
        stages = ",".join(
            f"{host.node_name}:{number * third}-{(number + 1) * third if number < 2 else layers}"
            for number, host in enumerate(hosts)
        )
        words = ("--stages", stages, "--context", "64", "--slots", "1")
        return [_round(hosts, takers, model, words) for _ in range(rounds)]


def _round(hosts: Sequence[Host], takers: Sequence[Host], model: Path, words: Sequence[str]) -> tuple[float, float]:
    """MB per second: what two nodes fetch, and what is copied."""
    before = [len(FETCHED.findall(host.log.read_text())) for host in takers]
    hosts[0].peerinfer("load", str(model), *words)
    hosts[0].peerinfer("unload", "big")
    results([host.watch(WAIT_S, lambda state: not state["instances"]) for host in takers])
    megabytes: list[float] = []
    seconds: list[float] = []
    for host, count in zip(takers, before, strict=True):
        wait_for(lambda host=host, count=count: len(FETCHED.findall(host.log.read_text())) > count, WAIT_S)
        fetched, took = FETCHED.findall(host.log.read_text())[count]
        megabytes.append(float(fetched))
        seconds.append(float(took))
        host.peerinfer("rm", "big")
    return sum(megabytes) / max(seconds), _copy(hosts[0], takers, model, [int(size * 1e6) for size in megabytes])


def _copy(giver: Host, takers: Sequence[Host], model: Path, sizes: Sequence[int]) -> float:
    """MB per second of plain TLS copies from one host to the others at once; each sender is a process of its own."""
    authority = Authority()
    context = authority.trust(node_id(1)).server_context()
    began = time.monotonic()
    pids: list[int] = []
    receiving: list[Future[None]] = []
    for number, (taker, size) in enumerate(zip(takers, sizes, strict=True)):
        listener = giver.do(partial(socket.create_server, (giver.address, PORT + number))).result()
        pid = os.fork()
        if pid == 0:
            try:
                _send(listener, context, model, size)
            finally:
                os._exit(0)
        pids.append(pid)
        listener.close()
        address = (giver.address, PORT + number)
        target = taker.home.parent / f"copy{number}"
        receiving.append(taker.do(partial(_receive, address, authority.trust(node_id(2)).client_context(), target)))
    for each in receiving:
        each.result()
    took_s = time.monotonic() - began
    for pid in pids:
        os.waitpid(pid, 0)
    return sum(sizes) / 1e6 / took_s


def _send(listener: socket.socket, context: ssl.SSLContext, model: Path, size: int) -> None:
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True) as secured, model.open("rb") as file:
        while size > 0 and (piece := file.read(min(COPY_BYTES, size))):
            secured.sendall(piece)
            size -= len(piece)


def _receive(address: tuple[str, int], context: ssl.SSLContext, target: Path) -> None:
    buffer = memoryview(bytearray(COPY_BYTES))
    with socket.create_connection(address) as plain, context.wrap_socket(plain) as secured, target.open("wb") as file:
        while count := secured.recv_into(buffer):
            file.write(buffer[:count])
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main())
