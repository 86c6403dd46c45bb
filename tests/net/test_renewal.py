"""Members that slept through a rotation renew, removed nodes get nothing: real TLS on 127.0.0.1, real identities."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from peerinfer.errors import LinkDown, LinkError, NotTrusted, OutdatedCertificate
from peerinfer.identity import membership
from peerinfer.identity.authority import AuthorityParts
from peerinfer.identity.certificates import leaf_certificate, to_pem
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.membership import TlsFiles
from peerinfer.identity.storage import Identity, TrustNews
from peerinfer.identity.succession import Generation
from peerinfer.net import handshake
from peerinfer.net.authority_messages import RotatedAuthority
from peerinfer.net.handshake import renew
from peerinfer.net.link_messages import Goodbye, GoodbyeReason, Hello, HelloAck
from peerinfer.net.messages import decode, encode
from peerinfer.net.tls import MeshTrust, client_context
from peerinfer.net.wire import LINK_PATH, Wire
from tests.net.mesh import Node, mesh_of, until


def known_to_all(*identities: Identity) -> None:
    for identity in identities:
        for other in identities:
            identity.merge_statements(other.roster.to_wire())


@dataclass
class Home:
    """Three members of one mesh, each with its node."""

    desk: Identity
    lap: Identity
    mini: Identity

    def node(self, identity: Identity) -> Node:
        return Node(MeshTrust(identity))

    @property
    def all(self) -> tuple[Identity, Identity, Identity]:
        return self.desk, self.lap, self.mini


@pytest.fixture
def home(tmp_path: Path) -> Home:
    desk, lap, mini = (Identity.open(tmp_path / name, name) for name in ("desk", "lap", "mini"))
    for newcomer in (lap, mini):
        newcomer.adopt_admission(desk.admit(newcomer.request_certificate(desk.mesh_id)), desk.mesh_id)
    known_to_all(desk, lap, mini)
    return Home(desk, lap, mini)


def linked(one: Node, other: Node) -> bool:
    return one.board.is_connected(other.id) and other.board.is_connected(one.id)


@pytest.mark.parametrize("sleeper_dials", [True, False])
async def test_a_member_that_slept_renews_and_gets_a_normal_link(home: Home, sleeper_dials: bool):
    home.desk.remove(home.mini.node_id)
    awake, sleeper = home.node(home.desk), home.node(home.lap)
    news: list[TrustNews] = []
    cast(MeshTrust, sleeper.trust).on_news = news.append
    dialler, other = (sleeper, awake) if sleeper_dials else (awake, sleeper)
    async with mesh_of(awake, sleeper):
        assert await dialler.connector.dial(other.address) == other.id
        await until(lambda: linked(awake, sleeper))
    assert home.lap.authority.standing == home.desk.authority.standing
    assert home.mini.node_id in home.lap.roster.removed
    assert news == [TrustNews(True, True, "")]


async def test_live_links_stay_while_the_ca_changes(home: Home):
    a, b = home.node(home.desk), home.node(home.lap)
    async with mesh_of(a, b):
        await a.connector.dial(b.address)
        await until(lambda: linked(a, b))
        home.desk.remove(home.mini.node_id)
        acks: list[int] = []
        b.board.on(HelloAck, lambda _, message: acks.append(message.incarnation))
        a.board.send(b.id, HelloAck(5))
        await until(lambda: acks)
        assert a.ups == [(b.id, True)]


@pytest.mark.parametrize("lower_dials", [True, False])
async def test_two_who_both_rotated_meet_and_the_lower_gives_way(home: Home, tmp_path: Path, lower_dials: bool):
    late = Identity.open(tmp_path / "late", "late")
    late.adopt_admission(home.desk.admit(late.request_certificate(home.desk.mesh_id)), home.desk.mesh_id)
    known_to_all(*home.all, late)
    home.desk.remove(home.mini.node_id)
    home.lap.remove(late.node_id)
    low, high = sorted((home.desk, home.lap), key=lambda identity: identity.authority.generation)
    removed = {home.mini.node_id, late.node_id}
    a, b = home.node(low), home.node(high)
    dialler, other = (a, b) if lower_dials else (b, a)
    async with mesh_of(a, b):
        assert await dialler.connector.dial(other.address) == other.id
        await until(lambda: linked(a, b))
    assert low.authority.standing == high.authority.standing
    assert low.authority.generation == Generation(2, high.node_id)
    assert low.roster.removed == high.roster.removed == removed
    assert len(low.authority.standing.uncovered(low.roster)) == 1  # which a next rotation will cover


@pytest.mark.parametrize("fooled_dials", [True, False])
async def test_who_took_over_a_removed_nodes_ca_comes_back(home: Home, tmp_path: Path, fooled_dials: bool):
    ghost = SigningKey.create()
    home.mini.merge_statements(home.mini.roster.admitting(home.mini._membership.key, ghost.public_key, "g").to_wire())
    home.mini.remove(ghost.node_id)
    home.lap.take_authority(home.mini.give_authority(home.lap.node_id), home.mini.roster.to_wire())
    home.desk.remove(home.mini.node_id)
    assert home.lap.authority.generation.node == home.mini.node_id
    knowing, fooled = home.node(home.desk), home.node(home.lap)
    dialler, other = (fooled, knowing) if fooled_dials else (knowing, fooled)
    async with mesh_of(knowing, fooled):
        assert await dialler.connector.dial(other.address) == other.id
        await until(lambda: linked(knowing, fooled))
    assert home.lap.authority.standing == home.desk.authority.standing
    assert home.desk.authority.generation.node == home.desk.node_id


# ---- removed nodes


def minted(key: SigningKey, issuer: Identity, folder: Path) -> TlsFiles:
    """A certificate for `key` that a holder of `issuer`'s CA key made by itself."""
    folder.mkdir()
    authority = issuer.authority
    leaf = leaf_certificate(key.public_key, authority.certificate, authority.key)
    files = TlsFiles(folder / "chain.pem", folder / "key.pem", issuer.tls_files.authority)
    files.certificate.write_bytes(b"".join(to_pem(each) for each in (leaf, *authority.chain[:-1])))
    files.key.write_bytes(key.to_pem())
    return files


async def knock(node: Node, context: ssl.SSLContext) -> int:
    """The HTTP status that a link attempt with these certificates gets."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(f"wss://{node.address}{LINK_PATH}", ssl=context) as socket:
                raise AssertionError(f"let in, and told {await socket.receive()}")
        except aiohttp.WSServerHandshakeError as error:
            return error.status


async def test_a_removed_node_gets_nothing_with_its_old_or_its_self_made_certificate(home: Home, tmp_path: Path):
    home.desk.remove(home.mini.node_id)
    own, another = home.mini._membership.key, SigningKey.create()
    x, y = tmp_path / "x", tmp_path / "y"
    old = [home.mini.tls_files, minted(own, home.mini, tmp_path / "own"), minted(another, home.mini, x)]
    contexts = [client_context(files) for files in old]
    home.mini.remove(home.lap.node_id)  # and with a CA that it made itself from the key that it had
    contexts += [client_context(files) for files in (home.mini.tls_files, minted(another, home.mini, y))]
    a = home.node(home.desk)
    held = home.desk.authority.standing
    async with mesh_of(a):
        for context in contexts:
            assert await knock(a, context) == 403
    assert len(a.refusals) == 5
    assert all(isinstance(error, NotTrusted) for error in a.refusals)
    assert home.desk.authority.standing == held


@pytest.mark.parametrize("removed_dials", [True, False])
async def test_a_removed_node_that_speaks_the_protocol_gets_nothing(home: Home, removed_dials: bool):
    home.desk.remove(home.mini.node_id)
    a, removed = home.node(home.desk), home.node(home.mini)
    given: list[str] = []
    real = home.desk.give_authority
    home.desk.give_authority = lambda node: (given.append(node), real(node))[1]
    dialler, other = (removed, a) if removed_dials else (a, removed)
    async with mesh_of(a, removed):
        with pytest.raises(NotTrusted):
            await dialler.connector.dial(other.address)
        assert a.ups == removed.ups == given == []
    assert home.mini.authority.generation.counter == 1


async def test_a_member_removed_while_it_connects_is_not_given_the_ca(home: Home, monkeypatch: pytest.MonkeyPatch):
    a, b = home.node(home.desk), home.node(home.mini)
    trust = cast(MeshTrust, a.trust)
    real = trust.is_current

    def removed_meanwhile(ssl_object: ssl.SSLObject) -> bool:
        home.desk.remove(home.mini.node_id)
        return real(ssl_object)

    monkeypatch.setattr(trust, "is_current", removed_meanwhile)
    async with mesh_of(a, b):
        with pytest.raises(NotTrusted):
            await b.connector.dial(a.address)
        await until(lambda: a.refusals)
    assert home.mini.authority.generation.counter == 1
    assert isinstance(a.refusals[0], NotTrusted)


async def test_a_member_removed_during_the_hello_gets_no_link(home: Home, monkeypatch: pytest.MonkeyPatch):
    a, b = home.node(home.desk), home.node(home.mini)
    real = handshake.check_hello

    def removed_meanwhile(hello: Hello, own: Hello, peer: str) -> None:
        if own.node == a.id:
            home.desk.merge_statements(home.desk.roster.removing(home.desk._membership.key, b.id).to_wire())
        real(hello, own, peer)

    monkeypatch.setattr(handshake, "check_hello", removed_meanwhile)
    async with mesh_of(a, b):
        with contextlib.suppress(LinkError):  # it may see the link end only after it has begun
            await b.connector.dial(a.address)
        await until(lambda: a.refusals)
        assert a.ups == []


# ---- the exchange itself


class PipedWire:
    """Stands for a wire: what is written is kept, what is received was given."""

    def __init__(self, *incoming: bytes | None) -> None:
        self.written: list[object] = []
        self._incoming = [*incoming]

    def write(self, data: bytes) -> None:
        self.written.append(decode(data))

    async def receive(self) -> bytes | None:
        if not self._incoming:
            await asyncio.Event().wait()
        return self._incoming.pop(0)


OWN = RotatedAuthority(AuthorityParts(b"k", (), b""), ())
THEIRS = RotatedAuthority(AuthorityParts(b"t", (), b""), ())
HELLO = Hello(1, "ab" * 16, "cd" * 16, 1, "", 0)
BYE = Goodbye(GoodbyeReason.OUTDATED, "bye")


async def exchanged(incoming: Sequence[object | None]) -> tuple[list[object], list[object]]:
    """What was written and what was taken over, of an exchange that ends as it should."""
    wire = PipedWire(*(None if message is None else encode(message) for message in incoming))
    taken: list[object] = []
    ending = await renew(cast(Wire, wire), OWN, taken.append)
    assert isinstance(ending, OutdatedCertificate)
    return wire.written, taken


async def test_of_an_outdated_peer_nothing_but_its_ca_is_taken():
    written, taken = await exchanged([THEIRS, BYE])
    assert taken == [THEIRS]
    assert written[0] == OWN
    assert cast(Goodbye, written[1]).reason == GoodbyeReason.OUTDATED
    for incoming in ([HELLO, HelloAck(1), BYE], [HELLO, THEIRS, BYE], [HELLO, None], [None], [THEIRS, None]):
        _, taken = await exchanged(incoming)
        assert taken == [THEIRS] * (incoming[0] is THEIRS)


async def test_a_refusal_in_place_of_a_ca_is_told():
    wire = PipedWire(encode(Goodbye(GoodbyeReason.NOT_TRUSTED, "You were removed.")))
    with pytest.raises(NotTrusted, match="removed"):
        await renew(cast(Wire, wire), OWN, lambda _: None)


async def test_a_peer_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handshake, "HANDSHAKE_TIMEOUT_S", 0.01)
    with pytest.raises(LinkDown, match="in time"):
        await renew(cast(Wire, PipedWire()), OWN, lambda _: None)


async def test_a_ca_in_place_of_a_hello_is_taken_and_ends_the_connection():
    taken: list[object] = []
    wire = PipedWire(encode(THEIRS))

    async def consent(_: Hello) -> None:
        raise AssertionError("no hello came")

    with pytest.raises(OutdatedCertificate):
        await handshake.shake_hands(cast(Wire, wire), HELLO, HELLO.node, consent, taken.append)
    assert taken == [THEIRS]
    assert cast(Goodbye, wire.written[1]).reason == GoodbyeReason.OUTDATED


async def test_who_cannot_agree_stops_after_a_second_try(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.desk.remove(home.mini.node_id)
    a, b = home.node(home.desk), home.node(home.lap)
    tries: list[str] = []
    monkeypatch.setattr(b.trust, "take_authority", lambda peer, _: tries.append(peer))
    async with mesh_of(a, b):
        with pytest.raises(OutdatedCertificate):
            await b.connector.dial(a.address)
        assert tries == [a.id, a.id]
        assert a.ups == b.ups == []


async def test_on_a_full_disk_a_removal_counts_all_the_same_and_the_old_ca_stays(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    home.desk.remove(home.mini.node_id)
    trust, before = MeshTrust(home.lap), home.lap.authority.generation

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(membership, "write_private", full)
    trust.take_authority(home.desk.node_id, MeshTrust(home.desk).authority_for(home.lap.node_id))
    assert "No space left" in caplog.text
    assert home.lap.authority.generation == before
    assert home.mini.node_id in home.lap.roster.removed
    monkeypatch.undo()
    home.lap.save()
    trust.take_authority(home.desk.node_id, MeshTrust(home.desk).authority_for(home.lap.node_id))
    assert home.lap.authority.generation == home.desk.authority.generation


def test_a_ca_that_does_not_hold_is_reported(home: Home, caplog: pytest.LogCaptureFixture):
    trust = MeshTrust(home.lap)
    trust.take_authority(home.desk.node_id, OWN)
    assert "was not taken over" in caplog.text


def test_contexts_follow_the_ca_but_not_the_mesh(home: Home):
    trust = MeshTrust(home.desk)
    before = trust.server_context(), trust.client_context()
    assert (trust.server_context(), trust.client_context()) == before
    home.desk.remove(home.mini.node_id)
    after = trust.server_context(), trust.client_context()
    assert not set(before) & set(after)
    home.desk.leave()
    assert (trust.server_context(), trust.client_context()) == after
