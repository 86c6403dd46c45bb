"""A real server around fakes, on a free port of the loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
import pytest

from peerinfer.api.server import ApiServer
from peerinfer.config import Listen
from tests.api.fakes import FakeChat, FakeNode

TOKEN = "5e" * 32
STALL_S = 0.3


@dataclass
class Api:
    """One running API and a client session for it."""

    server: ApiServer
    chat: FakeChat
    node: FakeNode
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    chat, node = FakeChat(), FakeNode()
    server = ApiServer(Listen("127.0.0.1", 0), TOKEN, chat, node, stall_s=STALL_S)
    await server.start()
    async with aiohttp.ClientSession(f"http://{server.address}") as session:
        yield Api(server, chat, node, session)
    await server.stop()


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that is taken but on which nobody listens: a connection to it is refused."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
