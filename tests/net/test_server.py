"""The listening side: one path, and limits for whoever holds connections open."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from peerinfer.errors import ConfigInvalid, LinkDown, PortInUse
from peerinfer.net import connector as connector_module
from peerinfer.net import server as server_module
from peerinfer.net.wire import LINK_PATH
from tests.net.mesh import Authority, Node, mesh_of, node_id, pair, until


async def test_nothing_but_the_link_path_is_answered():
    a, b = pair()
    async with mesh_of(a), aiohttp.ClientSession() as session:
        for path in ("/", "/metrics", LINK_PATH + "/x", LINK_PATH):
            url = f"https://{a.address}{path}"
            async with session.get(url, ssl=b.trust.client_context()) as response:
                assert response.status == 404
                assert await response.read() == b""


async def test_a_taken_port_is_a_clear_sentence():
    a, b = pair()
    async with mesh_of(a):
        with pytest.raises(PortInUse, match=f"127.0.0.1:{a.port} is taken.*--listen"):
            await b.server.start("127.0.0.1", a.port)
        await b.close()


async def test_an_address_of_another_machine_is_a_clear_sentence():
    _, b = pair()
    with pytest.raises(ConfigInvalid, match=r"192\.0\.2\.7:1 .*--listen"):
        await b.server.start("192.0.2.7", 1)


async def test_strangers_who_hold_connections_open_keep_nobody_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "HANDSHAKES_MAX", 3)
    a, b = pair()
    async with mesh_of(a, b):
        held = [socket.create_connection(("127.0.0.1", a.port)) for _ in range(12)]
        try:
            await until(lambda: 0 < len(a.server._handshakes) <= 3)
            await b.connector.dial(a.address)
            await until(lambda: a.board.is_connected(b.id))
            assert len(a.server._handshakes) <= 3
        finally:
            for connection in held:
                connection.close()


async def test_a_member_that_asks_for_no_link_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "HANDSHAKE_TIMEOUT_S", 0.1)
    a, b = pair()
    async with mesh_of(a):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", a.port, ssl=b.trust.client_context(), server_hostname="peerinfer"
        )
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        assert a.server._idle == {}


async def test_links_are_limited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connector_module, "LINKS_MAX", 1)
    authority = Authority()
    a, b, c = (Node(authority.trust(node_id(n))) for n in (1, 2, 3))
    async with mesh_of(a, b, c):
        await b.connector.dial(a.address)
        await until(lambda: a.board.is_connected(b.id))
        with pytest.raises(LinkDown, match="limit"):
            await c.connector.dial(a.address)
        assert list(a.board.peers()) == [b.id]


async def test_a_closed_node_can_listen_on_its_port_again():
    a, b = pair()
    async with mesh_of(a, b):
        await b.connector.dial(a.address)
        await until(lambda: a.board.is_connected(b.id))
        await a.close()
        await until(lambda: not b.board.is_connected(a.id))
        assert await a.server.start("127.0.0.1", a.port) == a.port
        await b.connector.dial(a.address)
        await until(lambda: a.board.is_connected(b.id))
