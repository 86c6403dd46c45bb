"""Mesh TLS over real sockets: members talk, everybody else is refused."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from peerinfer.errors import NotTrusted
from peerinfer.identity.storage import Identity
from peerinfer.net.pairing_tls import host_context, joiner_context
from peerinfer.net.tls import MeshTrust, client_context, peer_identity, server_context


def join(newcomer: Identity, inviter: Identity) -> None:
    admission = inviter.admit(newcomer.request_certificate(inviter.mesh_id))
    newcomer.adopt_admission(admission, inviter.mesh_id)


async def call(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """Who the server and the client each see at the other end. Raises what the client meets, at the latest on read."""
    seen: list[str] = []

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(peer_identity(writer.get_extra_info("ssl_object"))[0])
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="peerinfer")
        try:
            assert await reader.readexactly(5) == b"hello"
            tls = writer.get_extra_info("ssl_object")
            assert tls.version() == "TLSv1.3"
            return seen[0], peer_identity(tls)[0]
        finally:
            writer.close()


@pytest.fixture
def desk(tmp_path: Path) -> Identity:
    return Identity.open(tmp_path / "desk", "desk")


@pytest.fixture
def lap(tmp_path: Path, desk: Identity) -> Identity:
    lap = Identity.open(tmp_path / "lap", "lap")
    join(lap, desk)
    return lap


REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


async def test_members_see_who_the_other_is(desk: Identity, lap: Identity):
    ends = await call(server_context(desk.tls_files), client_context(lap.tls_files))
    assert ends == (lap.node_id, desk.node_id)


async def test_a_client_without_certificate_is_refused(desk: Identity):
    with pytest.raises(REFUSED):
        await call(server_context(desk.tls_files), joiner_context())


async def test_a_certificate_of_another_mesh_is_refused_by_both_ends(desk: Identity, tmp_path: Path):
    stranger = Identity.open(tmp_path / "stranger")
    trusting = joiner_context()
    trusting.load_cert_chain(stranger.tls_files.certificate, stranger.tls_files.key)
    with pytest.raises(REFUSED):
        await call(server_context(desk.tls_files), trusting)
    with pytest.raises(ssl.SSLCertVerificationError):
        await call(server_context(stranger.tls_files), client_context(desk.tls_files))


async def test_a_self_signed_server_is_refused(desk: Identity):
    context, _ = host_context(desk.mesh_id)
    with pytest.raises(ssl.SSLCertVerificationError):
        await call(context, client_context(desk.tls_files))


async def test_an_older_tls_is_refused(desk: Identity, lap: Identity):
    old = client_context(lap.tls_files)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(REFUSED):
        await call(server_context(desk.tls_files), old)


class Shown:
    """Stands for an SSL object that shows this certificate."""

    def __init__(self, certificate: bytes | None) -> None:
        self._certificate = certificate

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        return self._certificate


@pytest.mark.parametrize("certificate", [None, b"", b"garbage"])
def test_no_certificate_is_nobody(certificate: bytes | None):
    with pytest.raises(NotTrusted, match="no certificate"):
        peer_identity(Shown(certificate))  # pyright: ignore[reportArgumentType]  # the one method that is asked


def test_the_roster_is_asked_after_the_handshake(desk: Identity, lap: Identity, tmp_path: Path):
    leaf = ssl.PEM_cert_to_DER_cert(lap.tls_files.certificate.read_text())
    shown: ssl.SSLObject = Shown(leaf)  # pyright: ignore[reportAssignmentType]  # the one method that is asked
    trust = MeshTrust(desk)
    assert trust.peer_of(shown) == lap.node_id
    desk.remove(lap.node_id)
    with pytest.raises(NotTrusted, match="was removed"):
        trust.peer_of(shown)
    forgetful = Identity.open(tmp_path / "other")
    with pytest.raises(NotTrusted, match="not on this mesh's roster"):
        MeshTrust(forgetful).peer_of(shown)


def test_no_tickets_and_no_trust_store(desk: Identity):
    server, client = server_context(desk.tls_files), client_context(desk.tls_files)
    assert server.num_tickets == 0
    for context in (server, client):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert len(context.get_ca_certs()) == 1
