"""A small real mesh for tests of links: a CA made on the spot, nodes on 127.0.0.1, mutual TLS 1.3."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from peerinfer.clock import monotonic_us
from peerinfer.errors import NotTrusted
from peerinfer.net.authority_messages import RotatedAuthority
from peerinfer.net.bulk import BulkClient, BulkServer, Handler
from peerinfer.net.connector import Connector
from peerinfer.net.link_messages import PROTOCOL
from peerinfer.net.server import LinkServer
from peerinfer.net.switchboard import Switchboard
from peerinfer.net.tls import MeshTrust

MESH = "ab" * 16


class Authority:
    """A certificate authority for one test mesh."""

    def __init__(self, mesh_id: str = MESH) -> None:
        self.mesh_id = mesh_id
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.certificate = _certificate(mesh_id, self.key, mesh_id, self.key, ca=True)
        self.removed: set[str] = set()

    def trust(self, node_id: str) -> StandInTrust:
        """What a member of this mesh trusts."""
        return StandInTrust(self, node_id)


class StandInTrust:
    """The `Trust` protocol with certificates whose common name is the node id."""

    def __init__(self, authority: Authority, node_id: str) -> None:
        self.node_id = node_id
        self.mesh_id = authority.mesh_id
        self._authority = authority
        key = ed25519.Ed25519PrivateKey.generate()
        leaf = _certificate(node_id, key, authority.mesh_id, authority.key, ca=False)
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER, key, leaf)
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT, key, leaf)

    def server_context(self) -> ssl.SSLContext:
        return self._server

    def client_context(self) -> ssl.SSLContext:
        return self._client

    def peer_of(self, ssl_object: ssl.SSLObject) -> str:
        certificate = x509.load_der_x509_certificate(ssl_object.getpeercert(binary_form=True) or b"")
        node = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        if node in self._authority.removed:
            raise NotTrusted("That node was removed.")
        return node

    def is_current(self, ssl_object: ssl.SSLObject) -> bool:
        return True

    def authority_for(self, peer: str) -> RotatedAuthority:
        raise AssertionError("this mesh has one CA for ever")

    def take_authority(self, peer: str, message: RotatedAuthority) -> None:
        raise AssertionError("this mesh has one CA for ever")

    def _context(self, protocol: int, key: ed25519.Ed25519PrivateKey, leaf: x509.Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol is ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0
        context.load_verify_locations(cadata=_pem(self._authority.certificate))
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder, "chain.pem")
            chain.write_bytes(
                _pem(leaf).encode()
                + key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            context.load_cert_chain(chain)
        return context


@dataclass
class Node:
    """One test node: switchboard, connector, server, and what its switchboard reported."""

    trust: StandInTrust | MeshTrust
    incarnation: int = 1
    clock_us: Callable[[], int] = monotonic_us
    protocol: int = PROTOCOL
    port: int = 0
    ups: list[tuple[str, bool]] = field(default_factory=list)
    handler: Handler | None = None
    """Answers bulk questions."""

    def __post_init__(self) -> None:
        self.id = self.trust.node_id
        self.board = Switchboard(self.id)
        self.board.on_peer(lambda node, up: self.ups.append((node, up)))
        self.connector = Connector(
            self.trust,
            self.board,
            name=f"node {self.id[:2]}",
            incarnation=self.incarnation,
            clock_us=self.clock_us,
            protocol=self.protocol,
        )
        self.refusals: list[Exception] = []
        self.connector.on_refused = lambda _, error: self.refusals.append(error)
        self.bulk = BulkClient(self.trust, self.board)
        self.server = LinkServer(self.connector, BulkServer(self.handler) if self.handler else None)

    async def start(self) -> Node:
        self.port = await self.server.start("127.0.0.1", self.port)
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def close(self) -> None:
        await self.bulk.close()
        await self.connector.close()
        await self.server.close()


def node_id(first: int) -> str:
    """A node id that sorts by `first`."""
    return f"{first:02x}" * 16


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Waits until `condition` holds; fails after a time that no healthy run needs."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is the machinery's own state
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def mesh_of(*nodes: Node):
    """The nodes, listening; closed at the end."""
    try:
        yield [await node.start() for node in nodes]
    finally:
        for node in nodes:
            await node.close()


def pair(clock_us: Callable[[], int] = monotonic_us, protocol: int = PROTOCOL) -> tuple[Node, Node]:
    """Two nodes of one mesh; the first has the smaller id, the second the given clock and protocol version."""
    authority = Authority()
    second = Node(authority.trust(node_id(2)), clock_us=clock_us, protocol=protocol)
    return Node(authority.trust(node_id(1))), second


def _certificate(
    subject: str, key: ed25519.Ed25519PrivateKey, issuer: str, issuer_key: ed25519.Ed25519PrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer_key, None)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
