"""Starts the bench's rivals: `bench_rival.py` in processes of their own, and the llama.cpp build with RPC for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from peerinfer.cli.waiting import until
from peerinfer.errors import PeerinferError

SCRIPTS = Path(__file__).resolve().parent
READY_S = 120.0
"""Loading a model over RPC sends its weights through a socket."""
MEASURE_S = 300.0
"""One measurement on a slow and busy machine."""
LOG_BYTES = 1500
"""End of a rival's log that is shown when it fails."""


class Rival:
    """One `measure` or `callback` process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def measure(self, **request: object) -> dict[str, Any]:
        """One measurement. Raises `PeerinferError` with the process's last words if it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self.line(MEASURE_S)

    async def line(self, timeout_s: float) -> dict[str, Any]:
        """The next line that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout_s):
            line = await self._process.stdout.readline()
        if not line:
            last = self._log.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace")
            raise PeerinferError(f"llama.cpp's side of the bench has ended. Its last words:\n{last}")
        return json.loads(line)


@contextlib.asynccontextmanager
async def rival(mode: str, library: Path | None, **setup: object) -> AsyncGenerator[Rival]:
    """`bench_rival.py` in `mode`, with the llama_cpp in the folder `library`, else the installed one."""
    async with _process(library, mode, json.dumps(setup)) as (process, log):
        started = Rival(process, log)
        await started.line(READY_S)
        yield started


@contextlib.asynccontextmanager
async def rpc_servers(library: Path, count: int, threads: int) -> AsyncGenerator[list[int]]:
    """llama.cpp RPC servers on this machine; gives their ports."""
    async with contextlib.AsyncExitStack() as stack:
        ports = _free_ports(count)
        for port in ports:
            await stack.enter_async_context(_process(library, "serve", str(port), str(threads)))
        for port in ports:
            await until(lambda port=port: _listens(port), READY_S)
        yield ports


@contextlib.contextmanager
def unpacked(wheel: Path):
    """A folder for PYTHONPATH with the contents of a wheel."""
    with tempfile.TemporaryDirectory(prefix="peerinfer-bench-rpc-") as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        yield Path(folder)


def rpc_wheel() -> Path:
    """The llama-cpp-python with RPC, compiled now if it never was. Raises `PeerinferError` if that fails."""
    command = [sys.executable, str(SCRIPTS / "setup.py"), "--variant", "rpc", "--force-backend", "cpu"]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode != 0:
        raise PeerinferError("llama.cpp with RPC could not be compiled: see above.")
    return Path(made.stdout.strip().splitlines()[-1])


@contextlib.asynccontextmanager
async def _process(library: Path | None, *arguments: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, Path]]:
    paths: Sequence[str] = [str(library)] if library is not None else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryDirectory(prefix="peerinfer-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(SCRIPTS / "bench_rival.py"),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if arguments[0] != "serve" else errors,
                stderr=errors,
                env=environment,
            )
        try:
            yield process, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports that are free now: all are held until all are chosen."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
