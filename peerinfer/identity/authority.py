"""The mesh CA: its founding, the certificates it issues, the mesh id, and the hint that discovery shows.

The founding certificate is the anchor of a mesh for ever: the mesh id is its hash, and its subject names the
founder, where the roster's chain of admissions begins. A CA that is rotated later gets a new certificate with
a higher generation; the founding certificate stays beside it.
"""

from __future__ import annotations

import datetime
import hmac
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peerinfer.identity.keys import NodeId, SigningKey, node_id_of, short_hash, verify
from peerinfer.packing import pack, unpack

LEAF_DAYS = 20 * 365
"""Life of a leaf: longer than a laptop's. Trust ends with the roster or a rotated CA, never by a date."""
AUTHORITY_DAYS = 45 * 365
"""Life of a CA: any leaf issued in its first 25 years ends before it."""
SKEW_DAYS = 7
"""Certificates begin this long before they are made, for peers whose clock is behind."""
HINT_PERIOD_S = 3600
"""How long one discovery hint is shown: too short to follow a mesh from place to place."""
HINT_BYTES = 8
REQUEST_MAX_BYTES = 1024
"""An encoded certificate request."""

_ORGANISATION = "peerinfer mesh"
_REQUEST_DOMAIN = b"peerinfer/certificate-request/v1\0"
_HINT_DOMAIN = b"peerinfer/discovery-hint/v1\0"


@dataclass(frozen=True, slots=True, order=True)
class Generation:
    """Which CA of a mesh: the highest wins. The first is `(1, founder)`."""

    counter: int
    node: NodeId


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
class Authority:
    """The CA of one mesh, with its private key: every member holds it, so every member can invite."""

    key: SigningKey
    certificate: x509.Certificate
    founding: x509.Certificate

    @classmethod
    def found(cls, founder: NodeId, now: float) -> Authority:
        """A new mesh's first CA. `now`: seconds since 1970."""
        key = SigningKey.create()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, founder),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, "1"),
            ]
        )
        own = key.private.public_key()
        certificate = (
            _builder(subject, subject, own, now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
            .sign(key.private, None)
        )
        return cls(key, certificate, certificate)

    @classmethod
    def from_parts(cls, certificate: bytes, key: SigningKey, founding: bytes) -> Authority:
        """The CA from DER certificates and its key. Raises `ValueError` if the parts do not belong together."""
        authority = cls(key, x509.load_der_x509_certificate(certificate), x509.load_der_x509_certificate(founding))
        if public_key_in(authority.certificate) != key.public_key:
            raise ValueError("the CA certificate belongs to another key")
        if authority.generation.counter == 1 and certificate != founding:
            raise ValueError("a first-generation CA must be the founding one")
        if len(authority.founder) != 32 or _generation_in(authority.founding).counter != 1:
            raise ValueError("the founding certificate names no founder")
        return authority

    @property
    def mesh_id(self) -> str:
        """32 hex characters: the mesh's name for ever."""
        return short_hash(to_der(self.founding))

    @property
    def founder(self) -> NodeId:
        """The node that made the mesh."""
        return _generation_in(self.founding).node

    @property
    def generation(self) -> Generation:
        """Which CA of the mesh this is, as its certificate's subject says."""
        return _generation_in(self.certificate)

    @property
    def hint_secret(self) -> bytes:
        """What only members know, for `discovery_hint`; it says nothing of the key itself."""
        return hmac.digest(self.key.raw, _HINT_DOMAIN, "sha256")

    def issue(self, request: CertificateRequest, now: float) -> bytes:
        """A DER leaf certificate for the request's key. Raises `ValueError` if the request is not proven."""
        if not request.is_proven(self.mesh_id):
            raise ValueError("the certificate request is not signed by its key for this mesh")
        public = Ed25519PublicKey.from_public_bytes(request.public_key)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id_of(request.public_key))])
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        issuer_key = self.key.private.public_key()
        leaf = (
            _builder(subject, self.certificate.subject, public, now, LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(purposes, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
            .sign(self.key.private, None)
        )
        return to_der(leaf)

    def vouches_for(self, leaf: bytes, public_key: bytes) -> bool:
        """Whether the DER certificate `leaf` was issued by this CA for this raw public key."""
        try:
            certificate = x509.load_der_x509_certificate(leaf)
            certificate.verify_directly_issued_by(self.certificate)
            return public_key_in(certificate) == public_key
        except Exception:  # the library raises many kinds; all of them mean "no"
            return False


def discovery_hint(mesh_id: str, secret: bytes, period: int) -> bytes:
    """8 bytes by which members, and nobody else, know their mesh in an announcement.

    `secret` is `Authority.hint_secret`; `period` is wall seconds // `HINT_PERIOD_S`. A listener compares with
    the hints of the periods before and after too, since clocks differ.
    """
    return hmac.digest(secret, _HINT_DOMAIN + bytes.fromhex(mesh_id) + period.to_bytes(8, "big"), "sha256")[:HINT_BYTES]


def to_der(certificate: x509.Certificate) -> bytes:
    """A certificate as it travels."""
    return certificate.public_bytes(Encoding.DER)


def public_key_in(certificate: x509.Certificate) -> bytes:
    """The raw Ed25519 public key that a certificate is for. Raises `ValueError` if it is for another kind of key."""
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the certificate's key is of an unknown kind ({error})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the certificate is not for an Ed25519 key")
    return key.public_bytes_raw()


def _generation_in(certificate: x509.Certificate) -> Generation:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    counters = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    if len(names) != 1 or len(counters) != 1:
        raise ValueError("the CA certificate names no generation")
    return Generation(int(counters[0].value), str(names[0].value))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: Ed25519PublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    today = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=SKEW_DAYS))
        .not_valid_after(today + datetime.timedelta(days=days))
    )


def _usage(certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _request_text(mesh_id: str, public_key: bytes, name: str) -> bytes:
    return _REQUEST_DOMAIN + bytes.fromhex(mesh_id) + public_key + name.encode()
