"""TLS of the pairing listener: a certificate for one window, which nobody trusts; the key exchange vouches for it."""

from __future__ import annotations

import datetime
import re
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from peerinfer.errors import PairingError
from peerinfer.identity.authority import public_key_in
from peerinfer.identity.keys import SigningKey
from peerinfer.net.tls import bare_context

_MESH_ID = re.compile(r"[0-9a-f]{32}")


def host_context(mesh_id: str) -> tuple[ssl.SSLContext, bytes]:
    """A context with a fresh self-signed certificate that names the mesh, and its raw public key."""
    key = SigningKey.create()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, mesh_id)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
        .sign(key.private, None)
    )
    context = bare_context(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # `ssl` reads a key from a file only; the folder is ours alone
        chain = Path(folder, "chain.pem")
        chain.write_bytes(key.to_pem() + certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(chain)
    return context, key.public_key


def joiner_context() -> ssl.SSLContext:
    """Takes any certificate: `host_seen` goes into the key exchange, which fails for any but the host's own."""
    return bare_context(ssl.PROTOCOL_TLS_CLIENT)


def host_seen(ssl_object: ssl.SSLObject) -> tuple[bytes, str]:
    """Raw public key and mesh id that the host shows. Raises `PairingError` if it is no pairing listener."""
    try:
        certificate = x509.load_der_x509_certificate(ssl_object.getpeercert(binary_form=True) or b"")
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        mesh_id = str(names[0].value) if names else ""
        if not _MESH_ID.fullmatch(mesh_id):
            raise ValueError("no mesh id")
        return public_key_in(certificate), mesh_id
    except ValueError:
        raise PairingError(
            "What answers at that address is not an open invitation; check the address that `peerinfer invite` shows."
        ) from None
