"""The nodes of a demo: real daemons on this machine, each with a home of its own, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

from peerinfer.api.client import ApiClient
from peerinfer.api.record import read_record
from peerinfer.cli.waiting import until
from peerinfer.errors import DaemonAbsent, PeerinferError

START_S = 60.0
"""Until a daemon's API answers, with cold imports of native libraries on a busy machine."""
STOP_S = 15.0
"""Until a daemon that was asked to stop has ended; then it is terminated."""
KILL_S = 5.0
LOG_LINES = 15
"""Last lines of a daemon's log that are shown if it ends before its time."""
NODE_COMMAND = (sys.executable, "-P", "-m", "peerinfer", "up", "--headless")


class DemoNode:
    """One daemon in a process of its own."""

    def __init__(self, name: str, folder: Path, command: Sequence[str], threads: int) -> None:
        """`folder` takes its home and its log; `command` starts a daemon and takes the options of `peerinfer up`."""
        self.name = name
        self.home = folder / name
        self._log = folder / f"{name}.log"
        self._command = command
        self._threads = threads
        self._process: asyncio.subprocess.Process | None = None
        self._client: ApiClient | None = None

    @property
    def client(self) -> ApiClient:
        """Calls to it, once it has started."""
        if self._client is None:
            raise RuntimeError(f"{self.name} has not started")
        return self._client

    async def start(self, model_file: Path | None) -> None:
        """Starts it and waits until its API answers. Raises `DaemonAbsent` with its last words if it ends."""
        self.home.mkdir(mode=0o700)
        if model_file is not None:
            _place(model_file, self.home / "models")
        options = ["--home", str(self.home), "--name", self.name]
        options += ["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--threads", str(self._threads)]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches the demo alone, which then ends its nodes in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=os.name == "posix",
                creationflags=0x200 if os.name == "nt" else 0,  # CREATE_NEW_PROCESS_GROUP
            )
        try:
            await until(self._is_up, START_S)
        except TimeoutError:
            raise DaemonAbsent(f"{self.name} did not start within {START_S:.0f} seconds.{self._last_words()}") from None
        self._client = await ApiClient(self.home).__aenter__()

    async def _is_up(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            raise DaemonAbsent(f"{self.name} ended at its start.{self._last_words()}")
        try:
            read_record(self.home)
        except DaemonAbsent:
            return False
        return True

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n  {line}" for line in lines)

    async def stop(self) -> None:
        """Asks it to stop, and ends it if it does not."""
        if self._client is not None:
            with contextlib.suppress(PeerinferError, TimeoutError):
                async with asyncio.timeout(KILL_S):
                    await self._client.act("down")
            await self._client.__aexit__(None, None, None)
        elif self._process is not None and self._process.returncode is None:
            self._process.terminate()
        await self._end()

    async def release(self) -> None:
        """Leaves it running on its own."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)

    async def _end(self) -> None:
        if self._process is None:
            return
        for wait_s, next_step in ((STOP_S, self._process.terminate), (KILL_S, self._process.kill)):
            try:
                async with asyncio.timeout(wait_s):
                    await self._process.wait()
                return
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    next_step()
        await self._process.wait()


class DemoNodes:
    """All nodes of a demo. Leaving the `async with` ends them and removes their homes, whatever happened inside."""

    def __init__(self, count: int, command: Sequence[str] = NODE_COMMAND) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="peerinfer-demo-"))
        threads = max(1, (psutil.cpu_count(logical=False) or 1) // count)  # they share one machine's cores
        self._nodes = [DemoNode(f"demo-{i + 1}", self._folder, command, threads) for i in range(count)]
        self._kept = False

    async def start(self, model_file: Path | None) -> list[DemoNode]:
        """Starts all at once; `model_file` is put into the models folder of each."""
        async with asyncio.TaskGroup() as group:
            for node in self._nodes:
                group.create_task(node.start(model_file))
        return self._nodes

    def keep(self) -> None:
        """They shall outlive the demo."""
        self._kept = True

    async def __aenter__(self) -> DemoNodes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept:
            await asyncio.gather(*(node.release() for node in self._nodes))
            return
        await asyncio.gather(*(node.stop() for node in self._nodes))
        shutil.rmtree(self._folder, ignore_errors=True)


def _place(file: Path, models: Path) -> None:
    """A model in a node's folder, without a copy where the system allows a link."""
    models.mkdir(mode=0o700)
    there = models / file.name
    for place in (os.symlink, os.link, shutil.copy2):
        with contextlib.suppress(OSError):
            place(file, there)
            return
    raise PeerinferError(f"{file} cannot be put into {models}: is there room on the disk?")
