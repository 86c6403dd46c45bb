"""The mesh CA: its founding and rotation, the leaves it issues, the mesh id, and the hint that discovery shows.

The founding certificate is the anchor of a mesh for ever: the mesh id is its hash, and its subject names the
founder, where the roster's chain of admissions begins. Each CA that is rotated in is signed by the one before.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography import x509

from peerinfer.errors import RotationsUsedUp
from peerinfer.identity.certificates import (
    ROTATIONS_MAX,
    check_chain,
    directly_issued,
    founding_certificate,
    generation_in,
    leaf_certificate,
    load_der,
    public_key_in,
    rotated_certificate,
    to_der,
)
from peerinfer.identity.keys import NodeId, SigningKey, short_hash, verify
from peerinfer.identity.rotation import Rotation
from peerinfer.identity.succession import Generation, Standing
from peerinfer.packing import pack, unpack

HINT_PERIOD_S = 3600
"""How long one discovery hint is shown: too short to follow a mesh from place to place."""
HINT_BYTES = 8
HINT_SECRET_BYTES = 32
REQUEST_MAX_BYTES = 1024
"""An encoded certificate request."""

_REQUEST_DOMAIN = b"peerinfer/certificate-request/v1\0"
_HINT_DOMAIN = b"peerinfer/discovery-hint/v1\0"


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A joiner's wish for a leaf: its public key, the name it wants, and the proof that it holds the private half."""

    public_key: bytes
    name: str
    signature: bytes

    @classmethod
    def signed(cls, key: SigningKey, name: str, mesh_id: str) -> CertificateRequest:
        """A request to the mesh `mesh_id`, signed with `key`."""
        return cls(key.public_key, name, key.sign(_request_text(mesh_id, key.public_key, name)))

    def is_proven(self, mesh_id: str) -> bool:
        """Whether it was signed for this mesh by the holder of its public key."""
        return verify(self.public_key, self.signature, _request_text(mesh_id, self.public_key, self.name))

    def to_bytes(self) -> bytes:
        """As it travels, sealed, during the pairing."""
        return pack([self.public_key, self.name, self.signature])

    @classmethod
    def from_bytes(cls, data: bytes) -> CertificateRequest:
        """The reverse of `to_bytes`. Raises `ValueError` for anything else."""
        match unpack(data, REQUEST_MAX_BYTES):
            case [bytes() as public_key, str() as name, bytes() as signature]:
                return cls(public_key, name, signature)
            case _:
                raise ValueError("not a certificate request")


@dataclass(frozen=True, slots=True)
class AuthorityParts:
    """A CA as it is given to a member: everything but the founding certificate, which every member has."""

    key: bytes = field(repr=False)
    """32 private bytes: every member can invite."""
    chain: tuple[bytes, ...]
    """DER: its certificate, then those of the CAs before it; none if it is the founding one."""
    rotation: bytes
    """Its maker's statement; empty if it is the founding one."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA of one mesh, with its private key: every member holds it, so every member can invite.

    It holds together in itself. Whether to take it over is a question to the roster (`identity/succession.py`).
    """

    key: SigningKey
    chain: tuple[x509.Certificate, ...]
    """Its own certificate first, the founding one last; the two are one in the first generation."""
    rotation: Rotation | None
    """Its maker's statement; None in the first generation."""

    @classmethod
    def found(cls, founder: NodeId) -> Authority:
        """A new mesh's first CA."""
        key = SigningKey.create()
        return cls(key, (founding_certificate(key, founder),), None)

    def successor(self, node: SigningKey, covers: frozenset[NodeId]) -> Authority:
        """A new CA after this one, made by the owner of `node`, whose key nobody in `covers` will be given.

        Raises `RotationsUsedUp`.
        """
        self.check_rotatable()
        key = SigningKey.create()
        certificate = rotated_certificate(key, node.node_id, self.certificate, self.key)
        rotation = Rotation.signed(node, self.mesh_id, to_der(certificate), covers)
        return Authority(key, (certificate, *self.chain), rotation)

    @property
    def is_rotatable(self) -> bool:
        """Whether another CA can follow this one."""
        return self.generation.counter <= ROTATIONS_MAX

    def check_rotatable(self) -> None:
        """Raises `RotationsUsedUp` after as many CAs as a chain of certificates may have."""
        if not self.is_rotatable:
            raise RotationsUsedUp(
                f"This mesh has changed its CA {ROTATIONS_MAX} times, which is the most that it can. Members that are "
                "removed now are refused all the same, but keep a CA key that counts. To be rid of that, make a new "
                "mesh: `peerinfer leave` on every machine, then `peerinfer invite` on one and `join` on the others."
            )

    @classmethod
    def from_parts(cls, parts: AuthorityParts, founding: bytes) -> Authority:
        """The CA that was given. Raises `ValueError` if its parts do not belong together."""
        key = SigningKey.from_raw(parts.key)
        if len(parts.chain) > ROTATIONS_MAX:
            raise ValueError(f"a mesh has at most {ROTATIONS_MAX} CAs after the founding one")
        chain = tuple(load_der(each) for each in (*parts.chain, founding))
        check_chain(chain)
        rotation = Rotation.from_bytes(parts.rotation) if parts.rotation else None
        authority = cls(key, chain, rotation)
        if public_key_in(authority.certificate) != key.public_key:
            raise ValueError("the CA certificate belongs to another key")
        if (rotation is None) != (authority.generation.counter == 1):
            raise ValueError("every CA but the founding one comes with its maker's statement")
        if rotation is not None:
            authority.check_rotation(rotation)
        return authority

    def check_rotation(self, rotation: Rotation) -> None:
        """Raises `ValueError` unless `rotation` is the statement of this CA's maker about this CA."""
        if rotation.certificate != to_der(self.certificate) or rotation.issuer != self.generation.node:
            raise ValueError("the statement is about another CA")
        if not rotation.is_signed_for(self.mesh_id):
            raise ValueError("the statement is not signed by the CA's maker for this mesh")

    def to_parts(self) -> AuthorityParts:
        """As a member is given it, its private key included: to be sent to members only."""
        statement = self.rotation.to_bytes() if self.rotation else b""
        return AuthorityParts(self.key.raw, tuple(to_der(each) for each in self.chain[:-1]), statement)

    @property
    def certificate(self) -> x509.Certificate:
        """Its own."""
        return self.chain[0]

    @property
    def founding(self) -> x509.Certificate:
        """That of the mesh's first CA: the anchor."""
        return self.chain[-1]

    @property
    def mesh_id(self) -> str:
        """32 hex characters: the mesh's name for ever."""
        return short_hash(to_der(self.founding))

    @property
    def founder(self) -> NodeId:
        """The node that made the mesh."""
        return generation_in(self.founding).node

    @property
    def generation(self) -> Generation:
        """Which CA of the mesh this is, as its certificate's subject says."""
        return generation_in(self.certificate)

    @property
    def standing(self) -> Standing:
        """What is compared of it with other CAs of its mesh."""
        covers = self.rotation.covers if self.rotation else frozenset[NodeId]()
        return Standing(self.generation, covers, hashlib.sha256(to_der(self.certificate)).digest())

    @property
    def hint_secret(self) -> bytes:
        """What only members know, for `discovery_hint`; it says nothing of the key itself."""
        return hmac.digest(self.key.raw, _HINT_DOMAIN, "sha256")

    def issue(self, request: CertificateRequest) -> bytes:
        """A DER leaf certificate for the request's key. Raises `ValueError` if the request is not proven."""
        if not request.is_proven(self.mesh_id):
            raise ValueError("the certificate request is not signed by its key for this mesh")
        return self.issue_to(request.public_key)

    def issue_to(self, public_key: bytes) -> bytes:
        """A DER leaf certificate for a raw public key, whose owner is known to be the one who asks."""
        return to_der(leaf_certificate(public_key, self.certificate, self.key))

    def vouches_for(self, leaf: bytes, public_key: bytes) -> bool:
        """Whether the DER certificate `leaf` was issued by this very CA for this raw public key."""
        try:
            certificate = load_der(leaf)
            return public_key_in(certificate) == public_key and directly_issued(certificate, self.certificate)
        except ValueError:
            return False


def discovery_hint(mesh_id: str, secret: bytes, period: int) -> bytes:
    """8 bytes by which members, and nobody else, know their mesh in an announcement.

    `secret` is `Authority.hint_secret`; `period` is wall seconds // `HINT_PERIOD_S`. A listener compares with
    the hints of the periods before and after too, since clocks differ.
    """
    return hmac.digest(secret, _HINT_DOMAIN + bytes.fromhex(mesh_id) + period.to_bytes(8, "big"), "sha256")[:HINT_BYTES]


def _request_text(mesh_id: str, public_key: bytes, name: str) -> bytes:
    return _REQUEST_DOMAIN + bytes.fromhex(mesh_id) + public_key + name.encode()
