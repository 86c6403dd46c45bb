"""The nodes of a demo: real daemons on this machine, each with a home of its own, ended with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

from peerinfer.api.client import ApiClient
from peerinfer.cli.background import KILL_S, NODE_COMMAND, DetachedDaemon
from peerinfer.errors import PeerinferError

STOP_S = 15.0
"""Until a daemon that was asked to stop has ended; then it is terminated."""


class DemoNode:
    """One daemon in a process of its own."""

    def __init__(self, name: str, folder: Path, command: Sequence[str], threads: int) -> None:
        """`folder` takes its home and its log; `command` starts a daemon and takes the options of `peerinfer up`."""
        self.name = name
        self.home = folder / name
        self._daemon = DetachedDaemon(name, self.home, folder / f"{name}.log")
        self._command = command
        self._threads = threads
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
        options = ["--name", self.name, "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0"]
        self._daemon.start(self._command, [*options, "--threads", str(self._threads)])
        await self._daemon.until_up()
        self._client = await ApiClient(self.home).__aenter__()

    async def stop(self) -> None:
        """Asks it to stop, and ends it if it does not."""
        if self._client is not None:
            with contextlib.suppress(PeerinferError, TimeoutError):
                async with asyncio.timeout(KILL_S):
                    await self._client.act("down")
            await self._client.__aexit__(None, None, None)
        else:
            self._daemon.terminate()
        await self._daemon.end(STOP_S)

    async def release(self) -> None:
        """Leaves it running on its own."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)


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


async def pair(host: ApiClient, guest: ApiClient) -> None:
    """`guest` joins the mesh of `host`, by an invitation as a person would. Raises a `PairingError`."""
    async with contextlib.aclosing(host.follow("invite", {"wait": True})) as invitation:
        window = (await anext(invitation))["progress"]
        async for _ in guest.follow("join", {"code": window["code"], "host": f"127.0.0.1:{window['port']}"}):
            pass
        await anext(invitation)
