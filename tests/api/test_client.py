"""The client's events: decoded, in order, and an error or an end where the stream breaks or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from peerinfer.api import client as module
from peerinfer.api.client import ApiClient
from peerinfer.api.events import READERS_MAX
from peerinfer.api.server import ApiServer
from peerinfer.config import Listen
from peerinfer.control.apply import apply
from peerinfer.control.events import LeaderChanged
from peerinfer.control.state import Ballot, ClusterState
from peerinfer.errors import BadFrame, DaemonAbsent, Unavailable
from peerinfer.node.home import Home
from tests.api.fakes import STATE, FakeChat, FakeNode, eventually

LED = LeaderChanged(STATE.node, Ballot(1, STATE.node))
FREE = LeaderChanged(None, None)


class Running:
    """A server on a home, and a client that found it there."""

    def __init__(self, home: Home, server: ApiServer, node: FakeNode, client: ApiClient) -> None:
        self.home = home
        self.server = server
        self.node = node
        self.client = client


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    node = FakeNode()
    with Home.open(tmp_path / "home") as home:
        server = ApiServer(Listen("127.0.0.1", 0), home.token, FakeChat(), node)
        await server.start()
        home.announce(server.address, node.id, "0.1.0")
        async with ApiClient(home.path) as client:
            yield Running(home, server, node, client)
        await server.stop()


async def test_a_state_then_events_until_the_mesh_ends(running: Running) -> None:
    book = running.node.chronicle
    state = ClusterState("", "")
    heard: list[object] = []
    async for news in running.client.events():
        heard.append(news)
        state = news if isinstance(news, ClusterState) else apply(state, news)
        if len(heard) == 1:
            book.record((LED, FREE))
        elif len(heard) == 3:
            book.end()
    assert heard == [STATE, LED, FREE]
    assert state == book.state


async def test_leaving_the_loop_frees_the_place(running: Running) -> None:
    events = running.client.events()
    assert await anext(events) == STATE
    await events.aclose()
    await eventually(lambda: not running.server.events.readers)


async def test_a_reader_that_is_cut_off_is_told(running: Running) -> None:
    events = running.client.events()
    await anext(events)
    for reader in tuple(running.server.events.readers):
        reader._cut()  # as a full queue does
    with pytest.raises(DaemonAbsent, match="broke"):
        await anext(events)


async def test_too_many_readers_are_told(running: Running) -> None:
    streams = [running.client.events() for _ in range(READERS_MAX)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(Unavailable, match="programs follow"):
        await anext(running.client.events())
    for stream in streams:
        await stream.aclose()


async def test_a_silent_daemon_is_given_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.05)
    events = running.client.events()
    await anext(events)
    with pytest.raises(DaemonAbsent):
        await anext(events)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"id: 0\nevent: state\ndata: nonsense\n\n", BadFrame),
        (b"id: 1\nevent: change\ndata: {}\n\n", BadFrame),
        (b"id: moon\n\n", BadFrame),
        (b"data: " + b"x" * (3 * module.LINE_MAX_BYTES), DaemonAbsent),
    ],
)
async def test_what_no_daemon_says(tmp_path: Path, body: bytes, error: type[Exception]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/peerinfer/events", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    with Home.open(tmp_path / "home") as home:
        home.announce(f"{host}:{port}", "aa" * 16, "0.1.0")
        async with ApiClient(home.path) as client:
            with pytest.raises(error):
                await anext(client.events())
    await runner.cleanup()
