"""TLS of mesh links: version 1.3 only, certificates of the mesh CA from both sides, and who the peer is.

Facts of Python's `ssl` that shape this: there is no verify callback, so the roster is asked after the handshake,
on every connection; a switch of contexts by server name accepts clients without certificates, so pairing has a port
of its own; a TLS 1.3 client learns of its refusal only at its first read, so a link counts after the hello's ack.
"""

from __future__ import annotations

import ssl

from cryptography import x509

from peerinfer.errors import NotTrusted
from peerinfer.identity.authority import public_key_in
from peerinfer.identity.keys import NodeId, node_id_of
from peerinfer.identity.membership import TlsFiles
from peerinfer.identity.storage import Identity


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For the listening side of mesh links."""
    return _mesh_context(ssl.PROTOCOL_TLS_SERVER, files)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For the dialling side. Server names are not checked: the certificate's key is the name."""
    return _mesh_context(ssl.PROTOCOL_TLS_CLIENT, files)


def peer_identity(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> tuple[NodeId, bytes]:
    """Node id and raw public key of the verified peer. Raises `NotTrusted` if it showed no usable certificate."""
    try:
        certificate = x509.load_der_x509_certificate(ssl_object.getpeercert(binary_form=True) or b"")
        public_key = public_key_in(certificate)
    except ValueError:
        raise NotTrusted("The peer showed no certificate of a peerinfer node, so it was refused.") from None
    return node_id_of(public_key), public_key


class MeshTrust:
    """Whom this node trusts on its links: the CA at the handshake, the roster after it.

    It is for one membership: after a `join` or `leave` make another.
    """

    def __init__(self, identity: Identity) -> None:
        self.node_id: str = identity.node_id
        self.mesh_id: str = identity.mesh_id
        self._identity = identity
        self._server = server_context(identity.tls_files)
        self._client = client_context(identity.tls_files)

    def server_context(self) -> ssl.SSLContext:
        """For the listening side."""
        return self._server

    def client_context(self) -> ssl.SSLContext:
        """For the dialling side."""
        return self._client

    def peer_of(self, ssl_object: ssl.SSLObject) -> NodeId:
        """The peer's id. Raises `NotTrusted` unless the roster, as it is now, has it as a member."""
        node, _ = peer_identity(ssl_object)
        roster = self._identity.roster
        if node in roster.removed:
            raise NotTrusted(f"Node {node} was removed from this mesh, so it was refused.")
        if not roster.is_member(node):
            raise NotTrusted(f"Node {node} is not on this mesh's roster, so it was refused.")
        return node


def _mesh_context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = bare_context(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    return context


def bare_context(protocol: int) -> ssl.SSLContext:
    """TLS 1.3, no trust store, no session tickets (a resumed session would skip the certificates)."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context
