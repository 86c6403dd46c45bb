"""Links between real nodes on 127.0.0.1, over mutual TLS 1.3."""

from __future__ import annotations

import asyncio
import os
import ssl

import aiohttp
import pytest

from peerinfer.clock import monotonic_us
from peerinfer.errors import LinkDown, NotTrusted, ProtocolMismatch
from peerinfer.net import link as link_module
from peerinfer.net.handshake import check_hello
from peerinfer.net.link_messages import Hello, HelloAck, PeerAddresses
from peerinfer.net.messages import MESSAGE_MAX_BYTES
from peerinfer.net.wire import LINK_PATH
from tests.net.mesh import MESH, Authority, Node, mesh_of, node_id, pair, until

LARGE = 16 * 1024 * 1024


def frames_at(node: Node) -> list[bytes]:
    """A list that fills with the frames that `node` receives."""
    received: list[bytes] = []
    node.board.on_frame(lambda _, data: received.append(data))
    return received


async def linked(dialler: Node, other: Node) -> None:
    assert await dialler.connector.dial(other.address) == other.id
    await until(lambda: other.board.is_connected(dialler.id))


@pytest.mark.parametrize("smaller_dials", [True, False])
async def test_hello_and_ack_make_a_link_with_facts_on_both_sides(smaller_dials: bool):
    a, b = pair() if smaller_dials else reversed(pair())
    async with mesh_of(a, b):
        await linked(a, b)
        await until(lambda: a.board.peers()[b.id].rtt_us and b.board.peers()[a.id].rtt_us)
        at_a, at_b = a.board.peers()[b.id], b.board.peers()[a.id]
        assert (at_a.name, at_a.address, at_a.dialled) == (f"node {b.id[:2]}", b.address, True)
        assert (at_b.name, at_b.address, at_b.dialled) == (f"node {a.id[:2]}", a.address, False)
        assert (a.ups, b.ups) == ([(b.id, True)], [(a.id, True)])
    assert (a.ups[1:], b.ups[1:]) == ([(b.id, False)], [(a.id, False)])


@pytest.mark.parametrize("newer_dials", [True, False])
async def test_another_protocol_version_is_refused_with_advice(newer_dials: bool):
    old, new = pair(protocol=2)
    dialler, other = (new, old) if newer_dials else (old, new)
    async with mesh_of(old, new):
        with pytest.raises(ProtocolMismatch) as raised:
            await dialler.connector.dial(other.address)
        await until(lambda: other.refusals)
        for error in (raised.value, other.refusals[0]):
            assert isinstance(error, ProtocolMismatch)
            assert "version 1" in str(error)
            assert "version 2" in str(error)
            assert "update" in str(error)
        assert old.ups == new.ups == []


@pytest.mark.parametrize("_", range(4))
async def test_two_dials_at_once_leave_one_link_the_same_on_both_sides(_: int):
    a, b = pair()
    async with mesh_of(a, b):
        found = await asyncio.gather(a.connector.dial(b.address), b.connector.dial(a.address))
        assert found == [b.id, a.id]
        await until(lambda: a.board.is_connected(b.id) and b.board.is_connected(a.id))
        received = frames_at(b)
        await a.board.send_frame(b.id, [b"\x80"])
        await until(lambda: received)
        assert a.board.peers()[b.id].dialled is not b.board.peers()[a.id].dialled
        assert (a.ups, b.ups) == ([(b.id, True)], [(a.id, True)])


@pytest.mark.parametrize("smaller_dials", [True, False])
async def test_a_second_dial_finds_the_peer_and_keeps_the_live_link(smaller_dials: bool):
    a, b = pair() if smaller_dials else reversed(pair())
    async with mesh_of(a, b):
        await linked(a, b)
        assert await a.connector.dial(b.address) == b.id
        assert await b.connector.dial(a.address) == a.id
        assert (a.ups, b.ups) == ([(b.id, True)], [(a.id, True)])


async def test_a_dial_to_oneself_gives_ones_own_id():
    a, b = pair()
    async with mesh_of(a, b):
        assert await a.connector.dial(a.address) == a.id
        assert a.ups == []


@pytest.mark.parametrize("smaller_restarts", [True, False])
async def test_a_restarted_peer_replaces_its_dead_link(smaller_restarts: bool):
    authority = Authority()
    stays, dies = Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)))
    if smaller_restarts:
        stays, dies = dies, stays
    born = Node(authority.trust(dies.id), incarnation=2)
    async with mesh_of(stays, dies, born):
        await linked(dies, stays)
        await linked(born, stays)
        await until(lambda: stays.board.peers()[dies.id].incarnation == 2)
        assert stays.ups == [(dies.id, True), (dies.id, False), (dies.id, True)]


@pytest.mark.parametrize("smaller_is_deaf", [True, False])
async def test_a_link_that_proves_dead_makes_room(smaller_is_deaf: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "PROOF_TIMEOUT_S", 0.1)
    authority = Authority()
    stays, deaf = Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)))
    if smaller_is_deaf:
        stays, deaf = deaf, stays
    again = Node(authority.trust(deaf.id))
    async with mesh_of(stays, deaf, again):
        await linked(deaf, stays)
        monkeypatch.setattr(deaf.board.link_with(stays.id), "_take_own", lambda _: True)
        await linked(again, stays)
        received = frames_at(again)
        await until(lambda: stays.ups == [(deaf.id, True), (deaf.id, False), (deaf.id, True)])
        await stays.board.send_frame(again.id, [b"\x80"])
        await until(lambda: received)


async def test_a_cut_connection_is_noticed_by_both():
    a, b = pair()
    async with mesh_of(a, b):
        await linked(a, b)
        link = b.board.link_with(a.id)
        assert link is not None
        link._wire._transport.abort()
        await until(lambda: a.ups[1:] == [(b.id, False)] and b.ups[1:] == [(a.id, False)])
        with pytest.raises(LinkDown):
            a.board.send(b.id, HelloAck(1))
        with pytest.raises(LinkDown):
            await a.board.send_frame(b.id, [b"\x80"])
        await linked(b, a)


async def test_strangers_are_refused():
    ours, theirs = Authority(), Authority()
    a, stranger = Node(ours.trust(node_id(1))), Node(theirs.trust(node_id(2)))
    async with mesh_of(a, stranger):
        with pytest.raises(NotTrusted):
            await stranger.connector.dial(a.address)
        with pytest.raises(NotTrusted):
            await a.connector.dial(stranger.address)
        assert a.ups == stranger.ups == []


async def test_a_client_without_a_certificate_or_with_old_tls_is_refused():
    a, _ = pair()
    for maximum, complaint in ((ssl.TLSVersion.TLSv1_3, None), (ssl.TLSVersion.TLSv1_2, ssl.SSLError)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = maximum
        async with mesh_of(a), aiohttp.ClientSession() as session:
            with pytest.raises((aiohttp.ClientError, complaint or ssl.SSLError)):
                await session.get(f"https://{a.address}{LINK_PATH}", ssl=context)


async def test_a_removed_member_is_refused_both_ways():
    authority = Authority()
    a, b = Node(authority.trust(node_id(1))), Node(authority.trust(node_id(2)))
    async with mesh_of(a, b):
        authority.removed.add(b.id)
        with pytest.raises(NotTrusted):
            await b.connector.dial(a.address)
        with pytest.raises(NotTrusted):
            await a.connector.dial(b.address)
        assert any(isinstance(error, NotTrusted) for error in a.refusals)


async def test_a_hello_must_name_the_certificates_node_and_this_mesh():
    own = Hello(1, MESH, node_id(1), 1, "", 0)
    check_hello(Hello(1, MESH, node_id(2), 1, "", 0), own, node_id(2))
    with pytest.raises(NotTrusted, match="another node than its certificate"):
        check_hello(Hello(1, MESH, node_id(3), 1, "", 0), own, node_id(2))
    with pytest.raises(NotTrusted, match="another mesh"):
        check_hello(Hello(1, "cd" * 16, node_id(2), 1, "", 0), own, node_id(2))


async def test_messages_and_frames_keep_their_order_large_and_small():
    a, b = pair()
    async with mesh_of(a, b):
        await linked(a, b)
        received = frames_at(b)
        acks: list[int] = []
        b.board.on(HelloAck, lambda _, message: acks.append(message.incarnation))
        sent = [b"\x80" + os.urandom(size) for size in (1, 100_000, LARGE, 125, 126, 65_535, 65_536, 0)]
        for n, data in enumerate(sent):
            await a.board.send_frame(b.id, [data[:1], memoryview(data)[1:]])
            a.board.send(b.id, HelloAck(n))
        await until(lambda: len(received) == len(sent) and len(acks) == len(sent))
        assert received == sent
        assert acks == list(range(len(sent)))


async def test_control_goes_ahead_of_queued_data_to_a_peer_that_stopped_reading():
    a, b = pair()
    async with mesh_of(a, b):
        await linked(a, b)
        order: list[object] = []
        b.board.on_frame(lambda _, data: order.append(data[1]))
        b.board.on(HelloAck, lambda _, message: order.append(message))
        link = b.board.link_with(a.id)
        assert link is not None
        link._wire._transport.pause_reading()
        for n in range(10):
            await a.board.send_frame(b.id, [b"\x80", bytes([n]), bytes(LARGE // 4)])
        a.board.send(b.id, HelloAck(1))
        link._wire._transport.resume_reading()
        await until(lambda: len(order) == 11)
        assert [item for item in order if isinstance(item, int)] == list(range(10))
        assert order.index(HelloAck(1)) < 5


@pytest.mark.parametrize("hostile", [b"\x00garbage", b"\x93\x03\x01", b"\x94" + bytes(MESSAGE_MAX_BYTES), "text"])
async def test_garbage_from_a_member_ends_only_its_own_link(hostile: bytes | str):
    authority = Authority()
    a, b, c = (Node(authority.trust(node_id(n))) for n in (1, 2, 3))
    async with mesh_of(a, b, c):
        await linked(b, a)
        await linked(c, a)
        link = b.board.link_with(a.id)
        assert link is not None
        if isinstance(hostile, bytes):
            link._wire.write(hostile)
        else:
            await link._wire._socket.send_str(hostile)
        await until(lambda: (b.id, False) in a.ups)
        assert a.board.is_connected(c.id)
        received = frames_at(a)
        await c.board.send_frame(a.id, [b"\x80"])
        await until(lambda: received)


async def test_an_oversized_frame_ends_only_its_own_link(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peerinfer.net.server.MESSAGE_LIMIT", 1000)
    authority = Authority()
    a, b, c = (Node(authority.trust(node_id(n))) for n in (1, 2, 3))
    async with mesh_of(a, b, c):
        await linked(b, a)
        await linked(c, a)
        received = frames_at(a)
        await c.board.send_frame(a.id, [b"\x80", bytes(998)])
        await b.board.send_frame(a.id, [b"\x80", bytes(999)])
        await until(lambda: (b.id, False) in a.ups and received)
        assert a.board.is_connected(c.id)
        assert [len(data) for data in received] == [999]


async def test_the_heartbeat_finds_the_offset_of_the_peers_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.01)
    skew_us = 3_600_000_000
    a, b = pair(clock_us=lambda: monotonic_us() + skew_us)
    async with mesh_of(a, b):
        await linked(a, b)
        await asyncio.sleep(0.2)
        at_a, at_b = a.board.peers()[b.id], b.board.peers()[a.id]
        assert at_a.rtt_min_us is not None
        assert at_a.offset_us is not None
        assert at_b.rtt_min_us is not None
        assert at_b.offset_us is not None
        assert abs(at_a.offset_us - skew_us) <= at_a.rtt_min_us
        assert abs(at_b.offset_us + skew_us) <= at_b.rtt_min_us
        assert a.board.local_us(b.id, skew_us + 5) == 5 + skew_us - at_a.offset_us
        assert a.board.local_us(a.id, 5) == 5
        assert a.board.local_us(node_id(9), 5) is None


async def test_a_handler_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture):
    a, b = pair()

    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the handler")

    b.board.on_frame(fail)
    b.board.on(PeerAddresses, fail)
    b.board.on_peer(fail)
    async with mesh_of(a, b):
        await linked(a, b)
        received, told = frames_at(b), list[object]()
        b.board.on(PeerAddresses, lambda _, message: told.append(message))
        a.board.send(b.id, PeerAddresses(()))
        await a.board.send_frame(b.id, [b"\x80"])
        await until(lambda: received and told)
        assert b.board.is_connected(a.id)
        assert caplog.text.count("A handler failed") == 3
