"""A file to fetch in tests, where it goes, and certificates for a server that has it."""

from __future__ import annotations

import asyncio
import os
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from peerinfer.models.pull.web import Limits, Source, fetch
from tests.models.hub_server import HubServer

REPO, FILE = "owner/repo", "model.gguf"
QUICK = Limits(read_s=5.0, tries=3, wait_s=0.0, wait_max_s=0.0)
"""No waiting between tries."""


class Place:
    """A file to fetch, and where it goes."""

    def __init__(self, hub: HubServer, folder: Path, size: int = 2_000_003) -> None:
        self.hub = hub
        self.data = os.urandom(size)
        self.sha256 = hub.put(REPO, FILE, self.data)
        self.partial = folder / "here" / ".model.partial"
        self.final = folder / "here" / FILE
        self.seen: list[tuple[int, int]] = []
        self.begun = asyncio.Event()

    async def fetch(self, limits: Limits = QUICK, **changes: object) -> int:
        url = str(changes.pop("url", self.hub.url(REPO, FILE)))
        sha256 = str(changes.pop("sha256", self.sha256))
        source = Source(url, sha256, FILE, **changes)  # pyright: ignore[reportArgumentType]
        return await fetch(source, self.partial, self.final, self.progress, limits=limits)

    def progress(self, done: int, size: int) -> None:
        self.seen.append((done, size))
        self.begun.set()

    def left_nothing(self) -> bool:
        return not self.final.exists() and not self.partial.exists()


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server on loopback and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    return server, ssl.create_default_context(cafile=chain)
