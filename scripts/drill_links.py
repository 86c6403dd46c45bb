"""Do nodes measure their links as they are, and what does it cost the work?

Two hosts in network namespaces, joined by a line of each rate in turn (tbf), run real `LinkService`s over TLS, each in
a process of its own. A row: the rate of the line, what a plain TLS copy gets over it, what the nodes tell of it, and
the lowest and highest of single probes. Then a stream of frames as long as activations goes over the same line, and its
hops are timed: without probes, with probes of nodes that are at work, as they are then, and with probes that nobody
holds back, one after the other without a pause. Linux, as root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drill_hosts import BRIDGE_NETNS, DrillFailed, Host, Lan, enter, measured_alone, run

from peerinfer.clock import monotonic, monotonic_us
from peerinfer.telemetry import link_service, prober
from peerinfer.telemetry.links import LinkBook
from tests.net.mesh import Authority, Node, StandInTrust, node_id, until

RATES: Final = ("10mbit", "100mbit", "1gbit")
BITS_PER_S: Final = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
WITHIN: Final = 0.2
"""What a node tells must be as near to what the line carries: placement needs no more."""
PORT: Final = 7000
COPY_S: Final = 2.0
"""How long the plain copy goes on; its first quarter, where TCP finds the rate, is not counted."""
COPY_BYTES: Final = 1 << 16
BURST: Final = "32kb"
"""The bucket of tbf: what may go at the speed of memory after a rest. Segments are kept below it."""
SEGMENT_BYTES: Final = 16_000
QUEUE: Final = "50ms"
INTERVAL_S: Final = 1.0
"""Between two probes here: long enough for TCP to forget its window, as it does between real ones."""
WAIT_S: Final = 90.0
FRAME_BYTES: Final = 16 * 1024
"""A token's activation: 4096 values of four bytes."""
FRAME_EVERY_S: Final = 0.05
STREAM_S: Final = 10.0
STAMP_BYTES: Final = 8
FRAME_KIND: Final = b"\x80"

Scene = Callable[["Side"], Coroutine[Any, Any, Any]]
"""What one side does in its process; what it returns is told to the drill."""
MODES: Final = {"no probes": None, "probes held back": True, "probes without end": False}
"""Of the stream: whether nodes that measure count as busy."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two hosts, within its own process."""

    number: int
    host: Host
    peer: Host
    trust: StandInTrust
    meet: Barrier

    async def together(self) -> None:
        """Waits until the other side is here, too."""
        await asyncio.to_thread(self.meet.wait, WAIT_S)

    async def linked(self) -> Node:
        """A node that has a link with the other side."""
        node = Node(self.trust)
        await node.server.start(self.host.address, PORT)
        await self.together()
        if self.number:
            await node.connector.dial(f"{self.peer.address}:{PORT}")
        await until(node.board.peers)
        return node


class NotedBook(LinkBook):
    """Keeps every rate."""

    rates: Final[list[float]] = []

    def measured(self, peer: str, rate: float, interval_s: float, now: float) -> None:
        """Notes it first."""
        self.rates.append(rate)
        super().measured(peer, rate, interval_s, now)


def main() -> int:
    """Returns the exit status: 1 if a rate is told that is further off than `WITHIN`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", default=RATES, metavar="RATE", help="of the lines, as tc writes it")
    parser.add_argument("--probes", type=int, default=8, metavar="N", help="of each side, for each rate")
    parser.add_argument("--no-stream", action="store_true", help="only the rates")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    rows = measured_alone(lambda: [_row(rate, asked.probes, streams=not asked.no_stream) for rate in asked.rates])
    if rows is None:
        return 1
    if asked.json:
        print(json.dumps({"links": rows}))
    else:
        print(__doc__)
        for row in rows:
            _show(row)
    return 0 if all(abs(row["ratio"] - 1) <= WITHIN for row in rows) else 1


def _show(row: dict[str, Any]) -> None:
    print(
        "{rate}: line {line_mb:.2f} MB/s, TLS copy {copy_mb:.2f}, told {told_mb:.2f} MB/s, "
        "{ratio:.2f} of the copy (single probes {lowest:.2f} to {highest:.2f}; {count} of them)".format(**row)
    )
    for mode, (median, high, longest, frames) in row["hops_ms"].items():
        print(f"    hop, {mode}: {median:.2f} ms, nine of ten {high:.2f}, longest {longest:.2f}; {frames} frames")


def _row(rate: str, probes: int, *, streams: bool) -> dict[str, Any]:
    print(f"{rate} …", file=sys.stderr)
    with Lan(2) as hosts:
        for host in hosts:
            _shape(host, rate)
        authority = Authority()
        trusts = [authority.trust(node_id(number)) for number in (1, 2)]
        copied = _both(hosts, trusts, _copy)[1]
        probed = _both(hosts, trusts, partial(_measure, probes=probes))
        hops = {
            mode: _both(hosts, trusts, partial(_stream, is_busy=busy))[0] for mode, busy in MODES.items() if streams
        }
    told = max((told for told, _ in probed), key=lambda each: abs(each - copied))
    every = [each / copied for _, rates in probed for each in rates]
    return {
        "rate": rate,
        "line_mb": float(rate[:-4]) * BITS_PER_S[rate[-4:]] / 8e6,
        "copy_mb": copied / 1e6,
        "told_mb": told / 1e6,
        "ratio": told / copied,
        "lowest": min(every),
        "highest": max(every),
        "count": len(every),
        "hops_ms": {mode: _figures(times) for mode, times in hops.items()},
    }


def _figures(hops_us: Sequence[int]) -> tuple[float, float, float, int]:
    ordered = sorted(hops_us)
    return statistics.median(ordered) / 1e3, ordered[len(ordered) * 9 // 10] / 1e3, ordered[-1] / 1e3, len(ordered)


def _shape(host: Host, rate: str) -> None:
    """The host's line, at both of its ends."""
    for netns, device in ((host.netns, "eth0"), (BRIDGE_NETNS, f"port{host.address.rpartition('.')[2]}")):
        run("ip", "-n", netns, "link", "set", device, "gso_max_size", str(SEGMENT_BYTES))
        tbf = ("tbf", "rate", rate, "burst", BURST, "latency", QUEUE)
        run("ip", "netns", "exec", netns, "tc", "qdisc", "add", "dev", device, "root", *tbf)


def _both(hosts: Sequence[Host], trusts: Sequence[StandInTrust], scene: Scene) -> list[Any]:
    """What the scene gave on each side."""
    fork = multiprocessing.get_context("fork")
    meet = fork.Barrier(2)
    pipes: list[Connection] = []
    children: list[ForkProcess] = []
    for number in (0, 1):
        here, there = Pipe(duplex=False)
        side = Side(number, hosts[number], hosts[1 - number], trusts[number], meet)
        child = fork.Process(target=_play, args=(side, scene, there), daemon=True)
        child.start()
        there.close()
        pipes.append(cast(Connection, here))
        children.append(child)
    try:
        return [_heard(pipe) for pipe in pipes]
    finally:
        for child in children:
            child.join(1)
            child.kill()


def _heard(pipe: Connection) -> Any:
    try:
        if pipe.poll(WAIT_S):
            return pipe.recv()
    except EOFError:
        raise DrillFailed("A side of the drill ended without a word; its error is above.") from None
    raise DrillFailed(f"A side of the drill had not ended after {WAIT_S:.0f} s.")


def _play(side: Side, scene: Scene, tell: Connection) -> None:
    enter(side.host.netns)
    _probe_every(INTERVAL_S)
    link_service.LinkBook = NotedBook
    tell.send(asyncio.run(scene(side)))


def _probe_every(seconds: float) -> None:
    """Not as rarely as nodes do it."""
    for name in ("FIRST_S", "INTERVAL_S", "INTERVAL_MAX_S", "BUSY_S"):
        setattr(prober, name, seconds)


# The scenes


async def _copy(side: Side) -> float:
    """Bytes per second of a plain TLS copy; the second side receives."""
    return await asyncio.to_thread(_receive if side.number else _send, side)


def _send(side: Side) -> float:
    context = side.trust.server_context()
    with socket.create_server((side.host.address, PORT)) as listener:
        side.meet.wait(WAIT_S)
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secured:
            ends = monotonic() + COPY_S
            while monotonic() < ends:
                secured.sendall(bytes(COPY_BYTES))
    return 0.0


def _receive(side: Side) -> float:
    side.meet.wait(WAIT_S)
    buffer = memoryview(bytearray(COPY_BYTES))
    address = (side.peer.address, PORT)
    seen: list[tuple[float, int]] = []
    with socket.create_connection(address) as plain, side.trust.client_context().wrap_socket(plain) as secured:
        try:
            while count := secured.recv_into(buffer):
                seen.append((monotonic(), count))
        except (ssl.SSLError, ConnectionError):
            pass  # the sender is done
    begins = seen[0][0] + COPY_S / 4
    counted = [(at, count) for at, count in seen if at >= begins]
    return sum(count for _, count in counted[1:]) / (counted[-1][0] - counted[0][0])


async def _measure(side: Side, *, probes: int) -> tuple[float, list[float]]:
    """What a side tells of its link after so many probes, and what each probe found."""
    node = await side.linked()
    service = link_service.LinkService(node.board, lambda: False, monotonic)
    duty = asyncio.create_task(service.run())
    await until(lambda: len(NotedBook.rates) >= probes, WAIT_S)
    (told,) = service.told()
    await side.together()
    duty.cancel()
    return told.bandwidth_bytes_per_s, NotedBook.rates


async def _stream(side: Side, *, is_busy: bool | None) -> list[int]:
    """The hops in microseconds of frames that the second side sends to the first."""
    _probe_every(0.0)
    node = await side.linked()
    hops_us: list[int] = []
    node.board.on_frame(lambda _, data: hops_us.append(monotonic_us() - _sent_us(data)))  # one machine: one clock
    duty: asyncio.Task[None] | None = None
    if is_busy is not None:
        service = link_service.LinkService(node.board, lambda: is_busy, monotonic)
        duty = asyncio.create_task(service.run())
    await asyncio.sleep(1)
    if side.number:
        ends = time.monotonic() + STREAM_S
        while time.monotonic() < ends:
            frame = FRAME_KIND + monotonic_us().to_bytes(STAMP_BYTES, "big") + bytes(FRAME_BYTES)
            await node.board.send_frame(node_id(1), (frame,))
            await asyncio.sleep(FRAME_EVERY_S)
    await side.together()
    if duty is not None:
        duty.cancel()
    return hops_us


def _sent_us(data: bytes) -> int:
    return int.from_bytes(data[1 : 1 + STAMP_BYTES], "big")


if __name__ == "__main__":
    raise SystemExit(main())
