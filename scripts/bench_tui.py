"""What the terminal face costs: the share of one core that it takes, idle and under a flood of events.

A real process of `python -m tui` runs in a pseudo-terminal of a given size over a real API server, which tells made-up
changes of a mesh of 20 nodes: snapshots whose figures all changed, and links. Measured is the processor time, user and
system, of that process over a span on the wall, by its share; the wall time of the server is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import pty
import random
import struct
import sys
import tempfile
import termios
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import psutil

import peerinfer
from peerinfer.api.actions import NodeActions
from peerinfer.api.record import DaemonRecord, ensure_token, write_record
from peerinfer.api.server import ApiServer
from peerinfer.config import Listen
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.events import ClusterEvent, LinkMeasured, SnapshotReceived
from peerinfer.control.state import (
    Ballot,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Device,
    Epoch,
    HeldStage,
    Instance,
    InstanceState,
    Liveness,
    NodeReport,
    StagePlace,
)
from peerinfer.pipeline.requests import ChatService

NODES: Final = 20
SIZES: Final = ((80, 24), (200, 60))
RATES: Final = (0.0, 10.0, 200.0)
"""Events per second, of the whole mesh: nothing, a busy mesh, ten from each node."""
WARM_S: Final = 6.0
"""For imports and the first pictures."""
GB: Final = 1_000_000_000


@dataclass(slots=True)
class Mesh:
    """A made-up mesh, and what happens in it."""

    chronicle: Chronicle
    chance: random.Random

    def happens(self) -> ClusterEvent:
        """One event: three of four are snapshots."""
        nodes = [member.id for member in self.chronicle.state.members]
        node = self.chance.choice(nodes)
        if self.chance.random() < 0.25:
            other = self.chance.choice([each for each in nodes if each != node])
            return LinkMeasured(ClusterLink(node, other, self.chance.uniform(200, 3000), self.chance.uniform(1e7, 1e8)))
        known = self.chronicle.state.member(node)
        report = known.report if known is not None else None
        if report is None:
            raise RuntimeError("a made-up node without a report")
        devices = tuple(
            replace(device, utilisation=self.chance.random(), temperature_c=self.chance.uniform(40, 90))
            for device in report.devices
        )
        stages = tuple(
            replace(stage, tokens=stage.tokens + self.chance.randrange(50), ms_per_token=self.chance.uniform(1, 9))
            for stage in report.stages
        )
        free = self.chance.randrange(GB, 16 * GB)
        return SnapshotReceived(node, replace(report, memory_free_bytes=free, devices=devices, stages=stages))


def made_up(nodes: int) -> Mesh:
    """A mesh whose nodes all run a stage of one model."""
    ids = [f"{number:032x}" for number in range(nodes)]
    epoch = Epoch(1, ids[0], 1)
    stages = tuple(StagePlace(node, "llama.cpp", 4 * at, 4 * at + 4) for at, node in enumerate(ids))
    instance = Instance("1" * 32, "made-up", "d" * 64, epoch, InstanceState.READY, stages, 4096, 4)
    members = [
        ClusterMember(
            node,
            f"node-{at}",
            Liveness.ALIVE,
            NodeReport(
                peerinfer.__version__,
                16 * GB,
                8 * GB,
                (Device("cpu", "A processor", cores=8, utilisation=0.1), Device("cuda", "A GPU", 8 * GB, 4 * GB)),
                engines=("llama.cpp",),
                stages=(HeldStage("1" * 32, epoch, at, "ready", 1.0, 3.0, 0.4, 0),),
            ),
        )
        for at, node in enumerate(ids)
    ]
    state = ClusterState(ids[0], "5e" * 16, ids[0], Ballot(1, ids[0]), tuple(members), instances=(instance,))
    return Mesh(Chronicle(state), random.Random(7))  # noqa: S311  # the same events each time


class Actions:
    """The part of `NodeActions` that is asked for here."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.chronicle = chronicle


class Terminal:
    """A process in a pseudo-terminal whose output is read and thrown away, as a terminal would draw it."""

    def __init__(self, home: Path, size: tuple[int, int]) -> None:
        pid, self._screen = pty.fork()
        if pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor"})
            os.execv(sys.executable, [sys.executable, "-P", "-m", "tui", "--home", str(home)])  # noqa: S606
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.process = psutil.Process(pid)
        self.drawn_bytes = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._screen, 65_536):
                self.drawn_bytes += len(data)

    def busy_s(self) -> float:
        """Processor time so far."""
        times = self.process.cpu_times()
        return times.user + times.system

    def end(self) -> None:
        """Ends it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.process.terminate()
            os.waitpid(self.process.pid, 0)
        os.close(self._screen)


async def measure(size: tuple[int, int], nodes: int, span_s: float) -> list[tuple[float, float, float]]:
    """(events per second, share of a core, bytes drawn per second) for each rate."""
    mesh = made_up(nodes)
    with tempfile.TemporaryDirectory(prefix="peerinfer-bench-") as folder:
        home = Path(folder)
        actions = cast(NodeActions, Actions(mesh.chronicle))
        server = ApiServer(Listen("127.0.0.1", 0), ensure_token(home), cast(ChatService, Any), actions)
        await server.start()
        node = mesh.chronicle.state.node
        write_record(home, DaemonRecord(os.getpid(), server.address, node, peerinfer.__version__))
        terminal = Terminal(home, size)
        try:
            await asyncio.sleep(WARM_S)
            return [await _at_rate(mesh, terminal, rate, span_s) for rate in RATES]
        finally:
            terminal.end()
            await server.stop()


async def _at_rate(mesh: Mesh, terminal: Terminal, rate: float, span_s: float) -> tuple[float, float, float]:
    loop = asyncio.get_running_loop()
    began, busy, drawn, told = loop.time(), terminal.busy_s(), terminal.drawn_bytes, 0
    while (passed := loop.time() - began) < span_s:
        while told < passed * rate:
            mesh.chronicle.record((mesh.happens(),))
            told += 1
        await asyncio.sleep(0.02)
    return told / passed, (terminal.busy_s() - busy) / passed, (terminal.drawn_bytes - drawn) / passed


def main() -> int:
    """Prints the definition, then a line for each size and rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (20)")
    args = parser.parse_args()
    print(__doc__)
    print(f"{'size':>8} {'nodes':>6} {'events/s':>9} {'of a core':>10} {'drawn/s':>10}")
    for size in SIZES:
        for rate, share, drawn in asyncio.run(measure(size, args.nodes, args.seconds)):
            shape = f"{size[0]}x{size[1]}"
            print(f"{shape:>8} {args.nodes:>6} {rate:>9.1f} {share:>10.2%} {drawn / 1000:>7.1f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
