"""A daemon for the command line to talk to: a real server and home around fakes, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from peerinfer.api.server import ApiServer
from peerinfer.cli.main import main
from peerinfer.config import Listen
from peerinfer.node.home import Home
from tests.api.fakes import FakeChat, FakeNode


@dataclass
class Daemon:
    """What stands behind the API; tests may change it between calls."""

    home: Path
    node: FakeNode = field(default_factory=FakeNode)
    chat: FakeChat = field(default_factory=FakeChat)

    async def serve(self, started: Callable[[], None]) -> None:
        """Runs until `down`."""
        with Home.open(self.home) as home:
            server = ApiServer(Listen("127.0.0.1", 0), home.token, self.chat, self.node)
            await server.start()
            home.announce(server.address, self.node.id, "0.1.0")
            started()
            await self.node.stopping.wait()
            await server.stop()

    def run(self, *arguments: str) -> int:
        """`peerinfer ARGUMENTS` on this home."""
        return main([*arguments, "--home", str(self.home)])

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what the daemon does after it has answered."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "home")
    started = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await daemon.serve(started.set)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    yield daemon
    if thread.is_alive():
        loops[0].call_soon_threadsafe(daemon.node.stopping.set)
    thread.join(30)
