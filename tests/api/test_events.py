"""`GET /peerinfer/events`: a state, then every event; who is too slow is cut off, and all others go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from peerinfer.api import events as module
from peerinfer.api.events import PATH, QUEUE_MAX, READERS_MAX, EventReader
from peerinfer.api.feed import Feed
from peerinfer.api.server import ApiServer
from peerinfer.api.sse import ClientLost
from peerinfer.config import Listen
from peerinfer.control.apply import apply
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.events import LeaderChanged, MemberAppeared, MemberChanged, SnapshotReceived
from peerinfer.control.state import Ballot, ClusterState, Liveness, NodeReport
from tests.api.conftest import TOKEN, Api
from tests.api.fakes import STATE, FakeChat, FakeNode, eventually

ME = STATE.node
LED = LeaderChanged(ME, Ballot(1, ME))
FREE = LeaderChanged(None, None)
PATIENCE_S = 60.0
"""For a client that takes nothing, in tests where not time but the queue shall be what ends it."""


@dataclass
class Folding:
    """A reader that folds what it hears."""

    response: aiohttp.ClientResponse
    feed: Feed = field(default_factory=Feed)
    state: ClusterState | None = None
    comments: int = 0

    async def run(self) -> None:
        async for line in self.response.content:
            self.comments += line.startswith(b":")
            news = self.feed.take(line)
            if isinstance(news, ClusterState):
                self.state = news
            elif news is not None:
                assert self.state is not None
                self.state = apply(self.state, news)


@contextlib.asynccontextmanager
async def folding(api: Api) -> AsyncGenerator[Folding]:
    async with api.session.get(PATH) as response:
        assert response.status == 200
        reader = Folding(response)
        task = asyncio.create_task(reader.run())
        await eventually(lambda: reader.state is not None)
        yield reader
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_stream_is_a_state_and_numbered_changes(api: Api) -> None:
    api.node.chronicle.record((LED, FREE))
    async with api.session.get(PATH) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        first = [await response.content.readline() for _ in range(4)]
        assert first[:2] == [b"event: state\n", b"id: 2\n"]
        assert json.loads(first[2].removeprefix(b"data: "))["mesh"] == STATE.mesh
        api.node.chronicle.record((FREE, LED))
        second = [await response.content.readline() for _ in range(4)]
        assert second[:2] == [b"event: change\n", b"id: 3\n"]
        told = {"type": "leader_changed", "leader": ME, "ballot": {"counter": 1, "node": ME}}
        assert json.loads(second[2].removeprefix(b"data: ")) == told


async def test_readers_that_come_at_any_time_see_the_same(api: Api) -> None:
    book = api.node.chronicle
    async with folding(api) as early:
        book.record(MemberAppeared(f"{number:032x}", "", Liveness.ALIVE) for number in range(50))
        async with folding(api) as late:
            book.record(MemberChanged(f"{number:032x}", "n", Liveness.GONE) for number in range(50))
            await eventually(lambda: early.state == late.state == book.state)


async def test_nothing_is_lost_while_a_reader_is_let_in(api: Api) -> None:
    """Events happen at every turn of the loop while the reader connects."""
    book = api.node.chronicle
    done = asyncio.Event()

    async def happen() -> None:
        while not done.is_set():
            book.record((LED, FREE))
            await asyncio.sleep(0)

    happening = asyncio.create_task(happen())
    async with folding(api) as reader:
        done.set()
        await happening
        book.record((MemberAppeared("ff" * 16, "last", Liveness.ALIVE),))
        await eventually(lambda: reader.state == book.state)


@pytest.fixture
async def patient() -> AsyncIterator[Api]:
    """A server that waits long for a client that takes nothing."""
    chat, node = FakeChat(), FakeNode()
    server = ApiServer(Listen("127.0.0.1", 0), TOKEN, chat, node, stall_s=PATIENCE_S)
    await server.start()
    async with aiohttp.ClientSession(f"http://{server.address}") as session:
        yield Api(server, chat, node, session)
    await server.stop()


@contextlib.asynccontextmanager
async def stuck(api: Api) -> AsyncGenerator[socket.socket]:
    """A reader that takes nothing, with little room on its side."""
    loop, bound = asyncio.get_running_loop(), api.server.bound
    with socket.socket() as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.setblocking(False)
        await loop.sock_connect(end, (bound.host, bound.port))
        await loop.sock_sendall(end, f"GET {PATH} HTTP/1.1\r\nHost: {api.server.address}\r\n\r\n".encode())
        await eventually(lambda: len(api.server.events.readers) == 1)
        yield end


async def test_a_slow_reader_is_cut_off_and_the_others_go_on(patient: Api) -> None:
    book, readers = patient.node.chronicle, patient.server.events.readers
    waited: list[int] = []
    async with stuck(patient) as slow, folding(patient) as quick:
        while len(readers) == 2:
            for _ in range(100):
                book.record((SnapshotReceived(ME, NodeReport("v" * 4000, book.number, 0)),))
                waited += (len(reader.waiting) for reader in readers)
            await eventually(lambda: quick.state == book.state)
            assert book.number < 100 * QUEUE_MAX
        assert QUEUE_MAX // 2 < max(waited) <= QUEUE_MAX
        book.record((LED,))
        await eventually(lambda: quick.state == book.state)
        assert len(readers) == 1
        assert await _taken(slow) < book.number * 4000


async def _taken(end: socket.socket) -> int:
    """Bytes that still come until the connection ends."""
    loop, taken = asyncio.get_running_loop(), 0
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(end, 65536):
            taken += len(data)
    return taken


async def test_a_reader_that_takes_nothing_is_cut_off_in_time(api: Api) -> None:
    book, readers = api.node.chronicle, api.server.events.readers
    async with api.session.get(PATH) as response:
        assert response.status == 200
        await eventually(lambda: len(readers) == 1)
        for number in range(QUEUE_MAX):
            book.record((SnapshotReceived(ME, NodeReport("v" * 20_000, number, 0)),))
        await eventually(lambda: not readers)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_client_that_goes_away_frees_its_place(api: Api) -> None:
    readers = api.server.events.readers
    async with folding(api):
        assert len(readers) == 1
    await eventually(lambda: not readers)


async def test_there_are_places_for_so_many_readers(api: Api) -> None:
    async with contextlib.AsyncExitStack() as stack:
        full = [await stack.enter_async_context(api.session.get(PATH)) for _ in range(READERS_MAX)]
        assert [response.status for response in full] == [200] * READERS_MAX
        async with api.session.get(PATH) as response:
            assert response.status == 503
            assert response.headers["Retry-After"]
            error: dict[str, Any] = (await response.json())["error"]
            assert error["code"] == "unavailable"
            assert "16 programs follow" in error["message"]
        async with api.session.get("/peerinfer/state") as response:
            assert response.status == 200
        full[0].close()
        await eventually(lambda: len(api.server.events.readers) < READERS_MAX)
        async with api.session.get(PATH) as response:
            assert response.status == 200


async def test_the_stream_ends_with_the_mesh_and_the_next_one_shows_the_new(api: Api) -> None:
    async with api.session.get(PATH) as response:
        old = api.node.chronicle
        await eventually(lambda: bool(api.server.events.readers))
        old.record((LED,))
        api.node.chronicle = Chronicle(ClusterState(ME, "cc" * 16))
        old.end()
        assert (await response.read()).count(b"event: ") == 2
    async with folding(api) as reader:
        assert reader.state is not None
        assert reader.state.mesh == "cc" * 16


async def test_the_stream_ends_with_the_daemon() -> None:
    node = FakeNode()
    server = ApiServer(Listen("127.0.0.1", 0), TOKEN, FakeChat(), node)
    await server.start()
    async with aiohttp.ClientSession(f"http://{server.address}") as session, session.get(PATH) as response:
        await eventually(lambda: bool(server.events.readers))
        server.events.close()
        assert b"event: state" in await response.read()
        async with session.get(PATH) as late:
            assert late.status == 503
    await server.stop()
    assert not server.events.readers


async def test_signs_of_life_come_between_events(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.001)
    async with folding(api) as reader:
        await eventually(lambda: reader.comments >= 3)
        api.node.chronicle.record((LED,))
        await eventually(lambda: reader.state == api.node.chronicle.state)


async def test_head_would_never_end(api: Api) -> None:
    async with api.session.head(PATH) as response:
        assert response.status == 405


async def test_the_welcome_page_names_the_route(api: Api) -> None:
    async with api.session.get("/") as response:
        assert f"GET  {PATH}" in await response.text()


async def test_what_waits_is_given_out_before_the_end() -> None:
    cuts: list[bool] = []
    reader = EventReader(lambda: cuts.append(True))
    assert await reader.ready(0.0)
    reader.told(1, LED)
    reader.ended()
    assert await reader.ready(0.0)
    assert reader.waiting.popleft() == (1, LED)
    assert not await reader.ready(0.0)
    assert not cuts


async def test_a_full_queue_is_let_go_and_the_reader_is_cut_once() -> None:
    cuts: list[bool] = []
    reader = EventReader(lambda: cuts.append(True))
    for number in range(QUEUE_MAX + 5):
        reader.told(number, LED)
        assert len(reader.waiting) <= QUEUE_MAX
    assert (len(cuts), len(reader.waiting)) == (1, 0)
    with pytest.raises(ClientLost):
        await reader.ready(0.0)
