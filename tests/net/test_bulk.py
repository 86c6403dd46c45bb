"""Bulk bytes over real TLS: whole or an error, members only, and within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from peerinfer.errors import BadFrame, LinkDown, LinkError, UnknownModel
from peerinfer.net import bulk
from peerinfer.net.bulk import ANSWERS_PER_PEER_MAX, BULK_PATH, QUESTION_MAX_BYTES, Stream
from peerinfer.net.connector import SERVER_NAME
from tests.net.mesh import Authority, Node, mesh_of, node_id, until

CONTENT = bytes(range(256)) * 20_000


class Answers:
    """What a node answers: the question names it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.go_on = asyncio.Event()

    def __call__(self, peer: str, question: bytes) -> Stream:
        self.asked.append((peer, question))
        if question == b"no":
            raise UnknownModel("There is no such thing here.")
        return Stream(len(CONTENT), self._pieces(question))

    async def _pieces(self, question: bytes) -> AsyncIterator[bytes]:
        yield CONTENT[:1_000_000]
        if question == b"short":
            raise UnknownModel("It is gone.")
        if question == b"wait":
            await self.go_on.wait()
        yield CONTENT[1_000_000:]


def nodes_of(count: int = 2) -> tuple[Authority, Answers, list[Node]]:
    authority, answers = Authority(), Answers()
    made = [Node(authority.trust(node_id(number + 1)), handler=answers) for number in range(count)]
    return authority, answers, made


async def test_an_answer_comes_whole_and_the_asker_is_known_by_its_certificate() -> None:
    _, answers, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        await one.connector.dial(other.address)
        assert await one.bulk.fetch(other.id, b"all", len(CONTENT)) == CONTENT
        await until(lambda: other.board.is_connected(one.id))
        assert await other.bulk.fetch(one.id, b"all", len(CONTENT)) == CONTENT
    assert answers.asked == [(one.id, b"all"), (other.id, b"all")]


async def test_who_is_not_connected_cannot_be_asked() -> None:
    _, _, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        with pytest.raises(LinkDown, match="no link"):
            await one.bulk.fetch(other.id, b"all", 10)
        assert one.bulk.peers() == ()


async def test_a_no_says_why_and_a_stream_that_ends_early_is_an_error() -> None:
    _, _, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        await one.connector.dial(other.address)
        with pytest.raises(LinkDown, match="no such thing"):
            await one.bulk.fetch(other.id, b"no", 10)
        with pytest.raises(LinkDown, match="broke"):
            await one.bulk.fetch(other.id, b"short", len(CONTENT))
        with pytest.raises(BadFrame, match="more than"):
            await one.bulk.fetch(other.id, b"all", len(CONTENT) - 1)
        assert await one.bulk.fetch(other.id, b"all", len(CONTENT)) == CONTENT


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SILENCE_TIMEOUT_S", 0.2)
    _, answers, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        await one.connector.dial(other.address)
        with pytest.raises(LinkDown, match="silent"):
            await one.bulk.fetch(other.id, b"wait", len(CONTENT))
        answers.go_on.set()


async def test_a_peer_takes_only_so_many_streams_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, answers, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        await one.connector.dial(other.address)
        url = f"https://{other.address}{BULK_PATH}"
        connector = aiohttp.TCPConnector(ssl=one.trust.client_context(), limit_per_host=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def status(question: bytes) -> int:
                async with session.post(url, data=question, server_hostname=SERVER_NAME) as response:
                    await response.read()
                    return response.status

            running = [asyncio.create_task(status(b"wait")) for _ in range(ANSWERS_PER_PEER_MAX)]
            await until(lambda: len(answers.asked) == ANSWERS_PER_PEER_MAX)
            assert await status(b"all") == 429
            answers.go_on.set()
            assert await asyncio.gather(*running) == [200] * ANSWERS_PER_PEER_MAX
            assert await status(b"all") == 200
            assert await status(b"x" * (QUESTION_MAX_BYTES + 1)) == 400
            async with session.get(url, server_hostname=SERVER_NAME) as response:
                assert response.status == 400


async def test_a_removed_node_gets_nothing() -> None:
    authority, answers, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        await one.connector.dial(other.address)
        authority.removed.add(one.id)
        with pytest.raises(LinkError):
            await one.bulk.fetch(other.id, b"all", len(CONTENT))
    assert answers.asked == []


async def test_an_answer_from_another_node_than_asked_is_refused() -> None:
    _, _, nodes = nodes_of(3)
    async with mesh_of(*nodes) as (one, other, third):
        await one.connector.dial(other.address)
        await one.connector.dial(third.address)
        link = one.board.link_with(other.id)
        assert link is not None
        link.address = third.address
        with pytest.raises(LinkError, match="Another node"):
            await one.bulk.fetch(other.id, b"all", len(CONTENT))


async def test_no_peer_sends_a_question_on_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    _, answers, nodes = nodes_of(3)
    async with mesh_of(*nodes) as (one, other, third):
        await one.connector.dial(other.address)
        elsewhere = f"https://{third.address}{BULK_PATH}"

        async def redirect(*_: object) -> web.Response:
            return web.Response(status=307, headers={"Location": elsewhere})

        monkeypatch.setattr(other.server._bulk, "_stream", redirect)
        with pytest.raises(LinkError):
            await one.bulk.fetch(other.id, b"all", len(CONTENT))
    assert answers.asked == []


async def test_a_client_that_is_closed_connects_no_more() -> None:
    _, _, nodes = nodes_of()
    async with mesh_of(*nodes) as (one, other):
        await one.connector.dial(other.address)
        await one.bulk.close()
        with pytest.raises(LinkDown):
            await one.bulk.fetch(other.id, b"all", len(CONTENT))


async def test_a_node_without_answers_has_no_such_path() -> None:
    authority = Authority()
    async with mesh_of(Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)))) as (one, other):
        await one.connector.dial(other.address)
        with pytest.raises(LinkDown):
            await one.bulk.fetch(other.id, b"all", len(CONTENT))
