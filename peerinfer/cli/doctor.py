"""`doctor`: looks at what usually goes wrong, and says what to do about it."""

from __future__ import annotations

import argparse
import asyncio
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from peerinfer import __version__
from peerinfer.api.client import ApiClient
from peerinfer.api.server import bind
from peerinfer.cli.show import result, result_json, size
from peerinfer.cli.verbs import Verbs, add_json, add_verb, home_of
from peerinfer.clock import monotonic
from peerinfer.config import API_PORT, PEER_PORT, Listen
from peerinfer.engine.host import ask_mlx
from peerinfer.errors import DaemonAbsent, PeerinferError
from peerinfer.node.engines import IS_APPLE
from peerinfer.node.home import prepare_home
from peerinfer.placement.plan import in_list
from peerinfer.telemetry.collector import Collector, default_probes

DISK_FREE_BYTES = 5_000_000_000
"""A small model and its shard files; less is worth a warning."""
ENGINE_S = 60.0
"""Native libraries on a cold disk take their time."""
_ENGINE_FACTS = """\
import llama_cpp
print(llama_cpp.__version__, "on GPU" if llama_cpp.llama_supports_gpu_offload() else "on CPU", sep=", ")
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look gave."""

    name: str
    state: str
    """`ok`, `warning` (it works, but not as well as it could) or `problem`."""
    detail: str


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    add_json(add_verb(verbs, "doctor", "check whether this machine is ready, and what to do if not", run_doctor))


def run_doctor(args: argparse.Namespace) -> int:
    """Prints all findings; exit code 1 if one is a problem."""
    findings = list(examine(home_of(args)))
    healthy = all(finding.state != "problem" for finding in findings)
    if args.json:
        result_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        marks = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}
        result("\n".join(f"{marks[each.state]}  {each.name}: {each.detail}" for each in findings))
    return 0 if healthy else 1


def examine(home: Path) -> Iterable[Finding]:
    """All findings, in the order in which things are needed."""
    yield Finding(
        "peerinfer",
        "ok",
        f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    yield _home(home)
    yield _disk(home)
    memory = psutil.virtual_memory()
    yield Finding("memory", "ok", f"{size(memory.available)} of {size(memory.total)} available")
    yield from _hardware()
    yield _engine()
    yield _mlx()
    daemon = _daemon(home)
    yield daemon
    if daemon.state == "warning":
        yield _port("API port", Listen("127.0.0.1", API_PORT), "--api")
        yield _port("peer port", Listen("0.0.0.0", PEER_PORT), "--listen")  # noqa: S104  (the port that `up` takes)
    yield _network()


def _home(home: Path) -> Finding:
    try:
        prepare_home(home)
    except PeerinferError as error:
        return Finding("home", "problem", str(error))
    return Finding("home", "ok", str(home))


def _disk(home: Path) -> Finding:
    try:
        free = shutil.disk_usage(home).free
    except OSError as error:
        return Finding("disk", "problem", f"{home} cannot be looked at: {error.strerror}.")
    state = "ok" if free >= DISK_FREE_BYTES else "warning"
    return Finding("disk", state, f"{size(free)} free" + ("" if state == "ok" else ", little for models: make room"))


def _hardware() -> Iterable[Finding]:
    """What the probes know of this machine, and what they do not."""
    collector = Collector(default_probes(), monotonic)
    asyncio.run(collector.refresh())
    known = collector.hardware
    for device in known.devices:
        own = f", {size(device.memory_free_bytes)} of {size(device.memory_bytes)} free" if device.memory_bytes else ""
        yield Finding(device.kind, "ok", f"{device.name}{own}")
    for probe, reason in known.troubles:
        yield Finding(probe, "warning", reason)
    told = (
        ("a GPU", len(known.devices) > 1 or None),
        ("mains or battery", known.on_battery),
        ("a lid", known.lid_closed),
        ("whether somebody works here", known.user_active),
        ("heat", known.thermal or None),
    )
    unknown = [what for what, value in told if value is None]
    if unknown:
        yield Finding("hardware", "ok", f"this machine does not tell of {in_list(unknown)}; nothing depends on it")


def _engine() -> Finding:
    """Asks the engine in a process of its own: native code never runs in ours."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ENGINE_FACTS],
            capture_output=True, text=True, timeout=ENGINE_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return Finding("engine", "problem", "llama-cpp-python does not start: run scripts/setup again.")
    return Finding("engine", "ok", f"llama.cpp by llama-cpp-python {done.stdout.strip()}")


def _mlx() -> Finding:
    """Asks MLX the same way. Only an Apple machine is the worse without it."""
    try:
        known = asyncio.run(ask_mlx())
    except PeerinferError as error:
        return Finding("mlx", "warning", str(error))
    if known.trouble:
        return Finding("mlx", "warning" if IS_APPLE else "ok", known.trouble)
    unable = f", not for {in_list(list(known.unable))}" if known.unable else ""
    return Finding("mlx", "ok", f"{known.version}, on {'GPU' if known.metal else 'CPU'}{unable}")


def _daemon(home: Path) -> Finding:
    async def ask() -> str:
        async with ApiClient(home) as client:
            state = await client.state()
            return f"runs at {client.record.api}, in a mesh of {len(state['members'])}"

    try:
        return Finding("daemon", "ok", asyncio.run(ask()))
    except DaemonAbsent as error:
        return Finding("daemon", "warning", str(error))
    except PeerinferError as error:
        return Finding("daemon", "problem", str(error))


def _port(name: str, listen: Listen, option: str) -> Finding:
    try:
        bind(listen).close()
    except PeerinferError:
        return Finding(name, "problem", f"{listen} is taken by another program: choose another with {option}.")
    return Finding(name, "ok", f"{listen.port} is free")


def _network() -> Finding:
    """Whether other machines can reach this one at all."""
    wide = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith(("127.", "169.254."))
    ]
    if not wide:
        return Finding("network", "warning", "no network but this machine's own: other machines cannot reach it.")
    return Finding("network", "ok", f"reachable at {', '.join(wide)} (firewalls may still forbid port {PEER_PORT})")
