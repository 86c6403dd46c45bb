"""The dialer with real nodes: links come, come back, and spread by hearsay."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerinfer.net.dialer import Dialer
from peerinfer.net.peer_book import PeerBook
from tests.net.mesh import Authority, Node, mesh_of, node_id, until


class Dialling:
    """A node with a dialer on its own home folder."""

    def __init__(self, node: Node, home: Path) -> None:
        self.node = node
        home.mkdir(exist_ok=True)
        self.path = home / "peers.json"
        self.dialer = Dialer(node.board, node.connector.dial, PeerBook(self.path))


async def crash(node: Node) -> None:
    """Ends a node without a goodbye."""
    for peer in list(node.board.peers()):
        link = node.board.link_with(peer)
        assert link is not None
        link._wire._transport.abort()
    await node.close()


async def test_a_given_address_makes_a_link_and_is_remembered(tmp_path: Path):
    authority = Authority()
    a, b = Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)))
    async with mesh_of(a, b):
        first = Dialling(a, tmp_path)
        first.dialer.start([b.address, a.address])
        await until(lambda: a.board.is_connected(b.id) and b.board.is_connected(a.id))
        await first.dialer.close()
    assert PeerBook(first.path).load() == {b.id: (b.address,)}


async def test_a_remembered_member_that_restarts_is_linked_again(tmp_path: Path):
    authority = Authority()
    a, b = Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)))
    async with mesh_of(a):
        await b.start()
        book = PeerBook(tmp_path / "peers.json")
        book.remember(b.id, b.address)
        book.save()
        dialling = Dialling(a, tmp_path)
        dialling.dialer.start()
        await until(lambda: a.board.is_connected(b.id))
        await crash(b)
        await until(lambda: not a.board.is_connected(b.id))
        reborn = Node(authority.trust(b.id), incarnation=2, port=b.port)
        async with mesh_of(reborn):
            await until(lambda: a.board.is_connected(b.id))
            assert a.board.peers()[b.id].incarnation == 2
            await dialling.dialer.close()


async def test_peers_introduce_each_other(tmp_path: Path):
    authority = Authority()
    nodes = [Node(authority.trust(node_id(n))) for n in (1, 2, 3)]
    async with mesh_of(*nodes) as (a, b, c):
        dialling = [Dialling(node, tmp_path / node.id) for node in nodes]
        dialling[0].dialer.start()
        dialling[1].dialer.start([a.address])
        dialling[2].dialer.start([a.address])
        await until(lambda: b.board.is_connected(c.id) and c.board.is_connected(b.id))
        assert all(len(node.board.peers()) == 2 for node in nodes)
        for each in dialling:
            await each.dialer.close()


async def test_discovered_addresses_are_dialled_and_strangers_left(tmp_path: Path):
    ours, theirs = Authority(), Authority()
    a, b, stranger = Node(ours.trust(node_id(1))), Node(ours.trust(node_id(2))), Node(theirs.trust(node_id(3)))
    async with mesh_of(a, b, stranger):
        dialling = Dialling(a, tmp_path)
        dialling.dialer.start()
        for address in (stranger.address, "nonsense", "127.0.0.1:1", b.address):
            dialling.dialer.found(address)
        await until(lambda: a.board.is_connected(b.id))
        assert list(a.board.peers()) == [b.id]
        await dialling.dialer.close()


async def test_another_version_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    authority = Authority()
    a, b = Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)), protocol=2)
    async with mesh_of(a, b):
        dialling = Dialling(a, tmp_path)
        dialling.dialer.start([b.address])
        await until(lambda: len(b.refusals) == 1)
        dialling.dialer.reconsider()
        await until(lambda: len(b.refusals) == 2)
        await dialling.dialer.close()
    assert sum("update peerinfer" in record.message for record in caplog.records if record.levelname == "WARNING") == 1


async def test_a_given_address_must_be_one(tmp_path: Path):
    a = Node(Authority().trust(node_id(1)))
    with pytest.raises(ValueError, match="HOST:PORT"):
        Dialling(a, tmp_path).dialer.start(["nonsense"])
