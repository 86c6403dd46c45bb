"""Invite and join over real sockets on 127.0.0.1: the good path, and every way it is refused."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerinfer.errors import InviteExpired, PairingBusy, PairingError, PortInUse, WrongDigits
from peerinfer.identity.exchange import Exchange, Side
from peerinfer.identity.pairing import Ending
from peerinfer.identity.pairing_messages import PairingAnswer, PairingRefused, PairingStart, Refusal
from peerinfer.identity.storage import Identity
from peerinfer.net import pairing
from peerinfer.net.joining import join
from peerinfer.net.pairing import PairingHost
from peerinfer.net.pairing_tls import joiner_context
from peerinfer.net.pairing_wire import HOST_READS_MAX_BYTES, read_message, write_message
from peerinfer.net.roster_message import RosterStatements
from peerinfer.net.tls import client_context

HERE = "127.0.0.1"


class HandClock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def desk(tmp_path: Path) -> Identity:
    return Identity.open(tmp_path / "desk", "desk")


@pytest.fixture
def lap(tmp_path: Path) -> Identity:
    return Identity.open(tmp_path / "lap", "lap")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def host(desk: Identity, clock: HandClock) -> AsyncIterator[PairingHost]:
    host = await PairingHost.open(desk, HERE, clock=clock, addresses=(":8643", "192.0.2.9:8643"))
    yield host
    await host.close()


def wrong(host: PairingHost) -> str:
    return f"{(int(host.code.replace('-', '')) + 1) % 10**6:06}"


async def connect(host: PairingHost) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HERE, host.port, ssl=joiner_context(), server_hostname="x")


async def begin(host: PairingHost) -> asyncio.StreamWriter:
    """A session that stops after the host's element."""
    reader, writer = await connect(host)
    exchange = Exchange(Side.JOINER, b"digits:000000", b"k" * 32, b"b" * 32, secrets.token_bytes(64))
    write_message(writer, PairingStart(b"k" * 32, False, exchange.element))
    assert isinstance(await read_message(reader, HOST_READS_MAX_BYTES), PairingAnswer)
    return writer


async def test_the_six_digits_join(desk: Identity, lap: Identity, host: PairingHost, tmp_path: Path):
    result = await join(lap, HERE, host.port, host.code.replace("-", " "), name="the\x07 laptop")
    outcome = await host.finished()
    assert (outcome.ending, outcome.node_id, outcome.name) == (Ending.JOINED, lap.node_id, "the laptop")
    assert (result.mesh_id, result.members) == (desk.mesh_id, 2)
    assert result.addresses == (f"{HERE}:8643", "192.0.2.9:8643")
    assert (
        lap.roster == desk.roster == Identity.open(tmp_path / "desk").roster == Identity.open(tmp_path / "lap").roster
    )
    with pytest.raises(InviteExpired, match="No invitation is open"):
        await join(Identity.open(tmp_path / "late"), HERE, host.port, host.code)


async def test_the_link_joins_without_an_address(desk: Identity, lap: Identity, host: PairingHost):
    assert (await join(lap, "", 0, host.uri)).mesh_id == desk.mesh_id


async def test_three_wrong_digits_end_it(lap: Identity, host: PairingHost):
    before = lap.roster
    for left in ("2 tries are left", "1 try is left", "no try is left"):
        with pytest.raises(WrongDigits, match=left):
            await join(lap, HERE, host.port, wrong(host))
    assert (await host.finished()).ending is Ending.TRIES_USED_UP
    with pytest.raises(InviteExpired):
        await join(lap, HERE, host.port, host.code)
    assert lap.roster == before


async def test_an_expired_window_is_gone(lap: Identity, host: PairingHost, clock: HandClock):
    clock.now = host.expires_at
    assert (await host.finished()).ending is Ending.EXPIRED
    with pytest.raises(InviteExpired):
        await join(lap, HERE, host.port, host.code)


async def test_a_window_that_ends_under_a_connection_says_so(host: PairingHost, clock: HandClock):
    reader, writer = await connect(host)
    write_message(writer, PairingAnswer(b""))
    assert await read_message(reader, 1000) == PairingRefused(Refusal.BAD_MESSAGE, 3)
    session = await begin(host)
    clock.now = host.expires_at
    assert (await host.finished()).ending is Ending.EXPIRED
    session.close()
    writer.close()


async def test_a_parallel_session_is_told_to_wait(lap: Identity, desk: Identity, host: PairingHost):
    writer = await begin(host)
    with pytest.raises(PairingBusy, match="Another machine"):
        await join(lap, HERE, host.port, host.code)
    assert host.tries_left == 2
    writer.close()
    await writer.wait_closed()
    while True:  # until the host has noticed
        try:
            await join(lap, HERE, host.port, host.code)
            break
        except PairingBusy:
            await asyncio.sleep(0.2)
    assert lap.mesh_id == desk.mesh_id


async def test_many_at_once_let_one_in(host: PairingHost, desk: Identity, tmp_path: Path):
    nodes = [Identity.open(tmp_path / f"node{n}") for n in range(4)]
    tries = [join(node, HERE, host.port, host.code) for node in nodes]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(result, PairingError) for result in results if isinstance(result, BaseException))
    joined = [node.node_id for node in nodes if node.mesh_id == desk.mesh_id]
    assert len(joined) == 1
    assert set(desk.roster.members) == {desk.node_id, *joined}


@pytest.mark.parametrize(
    "garbage",
    [b"\0\0\0\x05hello", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\x01\0\x01" + b"x" * 9, b"GET / HTTP/1.1\r\n\r\n"],
)
async def test_garbage_inside_tls_is_refused(garbage: bytes, lap: Identity, desk: Identity, host: PairingHost):
    reader, writer = await connect(host)
    writer.write(garbage)
    assert await read_message(reader, 1000) == PairingRefused(Refusal.BAD_MESSAGE, 3)
    assert await reader.read() == b""
    writer.close()
    await join(lap, HERE, host.port, host.code)
    assert lap.mesh_id == desk.mesh_id


async def test_garbage_instead_of_tls_is_dropped(lap: Identity, desk: Identity, host: PairingHost):
    reader, writer = await asyncio.open_connection(HERE, host.port)
    writer.write(b"\0" * 100)
    await reader.read()
    writer.close()
    await join(lap, HERE, host.port, host.code)
    assert lap.mesh_id == desk.mesh_id


async def test_a_fifth_connection_is_dropped(host: PairingHost, lap: Identity):
    held = [await connect(host) for _ in range(pairing.CONNECTIONS_MAX)]
    with pytest.raises(PairingError, match="broken off"):
        await join(lap, HERE, host.port, host.code)
    for _, writer in held:
        writer.close()


async def test_a_flood_of_connections_is_slowed(host: PairingHost, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pairing.clocks, "monotonic", lambda: 5.0)
    answered = 0
    for _ in range(pairing.CONNECTIONS_PER_S + 3):
        try:
            _, writer = await connect(host)
        except OSError:
            continue
        answered += 1
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.01)  # the host parts too, so that not the number at once is what refuses
    assert 0 < answered <= pairing.CONNECTIONS_PER_S


async def test_a_relay_fails_with_the_right_digits(desk: Identity, lap: Identity, host: PairingHost, tmp_path: Path):
    """A man in the middle ends TLS itself and forwards every message in both directions, unchanged."""
    middle = await PairingHost.open(desk, HERE, window_s=1e9)  # its TLS key and the right mesh id, not the host's key
    context = middle._context
    await middle.close()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await connect(host)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, HERE, 0, ssl=context)
    async with server:
        with pytest.raises(WrongDigits):
            await join(lap, HERE, server.sockets[0].getsockname()[1], host.code)
    assert lap.is_alone
    assert desk.is_alone


async def test_a_removed_node_cannot_come_back(desk: Identity, lap: Identity, host: PairingHost):
    desk.admit(lap.request_certificate(desk.mesh_id))
    desk.remove(lap.node_id)
    with pytest.raises(PairingError, match="peerinfer leave"):
        await join(lap, HERE, host.port, host.code)
    assert lap.is_alone


async def test_a_member_of_a_grown_mesh_must_leave_first(lap: Identity, host: PairingHost, tmp_path: Path):
    other = Identity.open(tmp_path / "other")
    lap.admit(other.request_certificate(lap.mesh_id))
    with pytest.raises(PairingError, match="do not merge"):
        await join(lap, HERE, host.port, host.code)
    assert host.tries_left == 3


async def test_clear_sentences_before_any_try(desk: Identity, lap: Identity, host: PairingHost, tmp_path: Path):
    with pytest.raises(PairingError, match="--host"):
        await join(lap, "", 0, host.code)
    with pytest.raises(PairingError, match="already in that mesh"):
        await join(desk, HERE, host.port, host.code)
    other = host.uri.replace(desk.mesh_id, "ab" * 16)
    with pytest.raises(PairingError, match="Another mesh"):
        await join(lap, "", 0, other)
    assert host.tries_left == 3


async def test_what_is_no_invitation_gets_a_sentence(desk: Identity, lap: Identity):
    async def chatter(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 welcome\r\n")
        writer.close()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for behaviour, sentence in ((chatter, "broken off"), (silence, "No answer")):
        async with await asyncio.start_server(behaviour, HERE, 0) as server:
            with pytest.raises(PairingError, match=sentence):
                await join(lap, HERE, server.sockets[0].getsockname()[1], "111111", timeout_s=0.5)


async def test_a_port_that_is_taken_gets_a_sentence(desk: Identity, host: PairingHost):
    with pytest.raises(PortInUse, match="another port"):
        await PairingHost.open(desk, HERE, host.port)


async def test_closing_ends_everything(desk: Identity):
    host = await PairingHost.open(desk, HERE)
    idle = await connect(host)
    raw = socket.create_connection((HERE, host.port))
    await host.close()
    await host.close()
    assert (await host.finished()).ending is Ending.CANCELLED
    assert await idle[0].read() == b""
    idle[1].close()
    await idle[1].wait_closed()
    raw.close()
    with pytest.raises(ConnectionRefusedError):
        await connect(host)


async def test_pairing_is_no_way_into_the_mesh(desk: Identity, host: PairingHost):
    """The listener takes any client: nothing but the exchange is to be had there."""
    reader, writer = await asyncio.open_connection(HERE, host.port, ssl=joiner_context(), server_hostname="x")
    write_message(writer, RosterStatements(desk.roster.to_wire()))
    assert await read_message(reader, 1000) == PairingRefused(Refusal.BAD_MESSAGE, 3)
    writer.close()
    with pytest.raises(OSError, match="certificate verify failed"):
        await asyncio.open_connection(HERE, host.port, ssl=client_context(desk.tls_files), server_hostname="x")
