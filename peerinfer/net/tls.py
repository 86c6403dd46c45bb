"""TLS of mesh links: version 1.3 only, certificates of the mesh from both sides, and who the peer is.

TLS asks for a certificate that leads back to the mesh's founding CA, which former members can show as well: the roster
tells who is a member, and the certificate's direct issuer whether the two ends hold the same CA.

Facts of Python's `ssl` that shape this: there is no verify callback, so the roster is asked after the handshake,
on every connection; a switch of contexts by server name accepts clients without certificates, so pairing has a port
of its own; a TLS 1.3 client learns of its refusal only at its first read, so a link counts after the hello's ack.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable

from peerinfer.errors import NotTrusted
from peerinfer.identity.certificates import load_der, public_key_in
from peerinfer.identity.keys import NodeId, node_id_of
from peerinfer.identity.membership import TlsFiles
from peerinfer.identity.storage import Identity, TrustNews
from peerinfer.net.authority_messages import RotatedAuthority

log = logging.getLogger(__name__)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For the listening side of mesh links."""
    return _mesh_context(ssl.PROTOCOL_TLS_SERVER, files)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For the dialling side. Server names are not checked: the certificate's key is the name."""
    return _mesh_context(ssl.PROTOCOL_TLS_CLIENT, files)


def peer_identity(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> tuple[NodeId, bytes]:
    """Node id and raw public key of the verified peer. Raises `NotTrusted` if it showed no usable certificate."""
    try:
        certificate = load_der(ssl_object.getpeercert(binary_form=True) or b"")
        public_key = public_key_in(certificate)
    except ValueError:
        raise NotTrusted("The peer showed no certificate of a peerinfer node, so it was refused.") from None
    return node_id_of(public_key), public_key


class MeshTrust:
    """Whom this node trusts on its links: the mesh at the handshake, the roster and the CA of today after it.

    It is for one membership, and follows its CA: after a `join` or `leave` make another.
    """

    def __init__(self, identity: Identity) -> None:
        self.node_id: str = identity.node_id
        self.mesh_id: str = identity.mesh_id
        self.on_news: Callable[[TrustNews], None] | None = None
        """Told of what a peer's CA and statements have changed here, while its connection waits."""
        self._identity = identity
        self._files = identity.tls_files
        self._server = server_context(self._files)
        self._client = client_context(self._files)

    def server_context(self) -> ssl.SSLContext:
        """For the next connection on the listening side."""
        self._follow()
        return self._server

    def client_context(self) -> ssl.SSLContext:
        """For the next connection on the dialling side."""
        self._follow()
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

    def is_current(self, ssl_object: ssl.SSLObject) -> bool:
        """Whether the peer's certificate is from the very CA that this node holds now."""
        _, public_key = peer_identity(ssl_object)
        return self._identity.authority.vouches_for(ssl_object.getpeercert(binary_form=True) or b"", public_key)

    def authority_for(self, peer: NodeId) -> RotatedAuthority:
        """What renews a peer whose certificate is not current. Raises `NotTrusted` unless it is a member now."""
        return RotatedAuthority(self._identity.give_authority(peer), self._identity.roster.to_wire())

    def take_authority(self, peer: NodeId, message: RotatedAuthority) -> None:
        """Takes in what a peer gave, as far as it holds."""
        news = self._identity.take_authority(message.authority, message.statements)
        if news.refusal:
            log.warning("The CA that %s holds was not taken over: %s.", peer[:8], news.refusal)
        if self.on_news and (news.authority or news.roster):
            self.on_news(news)

    def _follow(self) -> None:
        """New contexts after the CA has changed. What is open stays as it is."""
        files, same = self._identity.tls_files, self._identity.node_id == self.node_id
        if same and self._identity.mesh_id == self.mesh_id and files != self._files:
            self._server, self._client, self._files = server_context(files), client_context(files), files


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
