"""The X.509 certificates of a mesh (RFC 5280): founding, rotated CAs and leaves, as made here and as accepted here.

Each CA after the founding one is signed by the CA before it, and a node shows its leaf together with all of them, so
that TLS leads every member's leaf back to the founding certificate, whichever generation the other end knows. TLS
thus tells members and former members from strangers; which of the former two a peer is, the roster says.

All certificates hold for all time (RFC 5280 §4.1.2.5): trust ends with the roster or a rotated CA, never by a date, and
no machine's wrong clock may decide whether it can talk to the others.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peerinfer.identity.keys import ID_BYTES, NodeId, SigningKey, node_id_of
from peerinfer.identity.succession import Generation

ALWAYS = (
    datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC),
)
"""When certificates hold; the end is the one that stands for none."""
ROTATIONS_MAX = 64
"""CAs after the founding one. OpenSSL follows a chain of 100 certificates by default and reads at most 100 kB of
them; 64 add 30 kB and some 10 ms to each handshake. A home that removes a machine each season gets by for 16 years."""

_ORGANISATION = "peerinfer mesh"


def founding_certificate(key: SigningKey, founder: NodeId) -> x509.Certificate:
    """The anchor of a new mesh, signed by its own `key`."""
    subject = _authority_name(Generation(1, founder))
    builder = _builder(subject, subject, key.public_key, ALWAYS)
    return _signed(builder, _authority_extensions(key.public_key, None, 1), key)


def rotated_certificate(
    key: SigningKey, node: NodeId, parent: x509.Certificate, parent_key: SigningKey
) -> x509.Certificate:
    """The CA after `parent`, made by `node`, for `key`."""
    counter = generation_in(parent).counter + 1
    name = _authority_name(Generation(counter, node))
    builder = _builder(name, parent.subject, key.public_key, _dates(parent))
    return _signed(builder, _authority_extensions(key.public_key, parent_key.public_key, counter), parent_key)


def leaf_certificate(public_key: bytes, issuer: x509.Certificate, issuer_key: SigningKey) -> x509.Certificate:
    """A node's certificate for its raw public key. Raises `ValueError` if that is not one."""
    public = Ed25519PublicKey.from_public_bytes(public_key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id_of(public_key))])
    extensions = [
        _critical(x509.BasicConstraints(ca=False, path_length=None)),
        _critical(_usage(certificates=False)),
        _plain(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])),
        _plain(x509.SubjectKeyIdentifier.from_public_key(public)),
        _plain(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.private.public_key())),
    ]
    return _signed(_builder(subject, issuer.subject, public_key, _dates(issuer)), extensions, issuer_key)


def check_chain(chain: Sequence[x509.Certificate]) -> None:
    """Raises `ValueError` unless each CA certificate is one that `rotated_certificate` makes after the next one.

    The newest comes first and the founding one last. What passes is also what OpenSSL's strict checks accept: a CA
    that is taken over but fails there would part the node from all others.
    """
    if not 1 <= len(chain) <= 1 + ROTATIONS_MAX:
        raise ValueError(f"a chain of CAs has at most {ROTATIONS_MAX} after the founding one")
    for place, certificate in enumerate(reversed(chain), 1):
        if generation_in(certificate).counter != place:
            raise ValueError("a CA's generation is not its place in the chain")
    for certificate, parent in itertools.pairwise(chain):
        _check_rotated(certificate, parent)


def directly_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` itself, and not another CA of the mesh, signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # the library raises many kinds; all of them mean "no"
        return False
    return True


def generation_in(certificate: x509.Certificate) -> Generation:
    """The generation in the subject of a CA certificate. Raises `ValueError` if it names none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    counters = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    if len(names) != 1 or len(counters) != 1:
        raise ValueError("the CA certificate names no generation")
    counter, node = str(counters[0].value), str(names[0].value)
    if len(node) != 2 * ID_BYTES or not (counter.isascii() and counter.isdigit() and len(counter) <= 4):
        raise ValueError("the CA certificate names no generation")
    return Generation(int(counter), node)


def load_der(data: bytes) -> x509.Certificate:
    """A certificate that came from elsewhere. Raises `ValueError`."""
    try:
        return x509.load_der_x509_certificate(data)
    except Exception as error:  # the library has kinds of its own, such as `InvalidVersion`
        raise ValueError(f"not a certificate ({error})") from None


def to_der(certificate: x509.Certificate) -> bytes:
    """A certificate as it travels."""
    return certificate.public_bytes(Encoding.DER)


def to_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as Python's `ssl` reads it from a file."""
    return certificate.public_bytes(Encoding.PEM)


def public_key_in(certificate: x509.Certificate) -> bytes:
    """The raw Ed25519 public key that a certificate is for. Raises `ValueError` if it is for another kind of key."""
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError(f"the certificate's key is of an unknown kind ({error})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the certificate is not for an Ed25519 key")
    return key.public_bytes_raw()


def _check_rotated(certificate: x509.Certificate, parent: x509.Certificate) -> None:
    generation = generation_in(certificate)
    wanted = _authority_extensions(public_key_in(certificate), public_key_in(parent), generation.counter)
    try:
        found = list(certificate.extensions)
    except Exception as error:  # the library raises many kinds; all of them mean "malformed"
        raise ValueError(f"a CA certificate's extensions cannot be read ({type(error).__name__})") from None
    if found != wanted or _dates(certificate) != _dates(parent) or certificate.subject != _authority_name(generation):
        raise ValueError("a CA certificate is not of the form that peerinfer makes")
    if not directly_issued(certificate, parent):
        raise ValueError("a CA certificate is not signed by the CA before it")


def _authority_name(generation: Generation) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, generation.node),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, str(generation.counter)),
        ]
    )


def _authority_extensions(
    public_key: bytes, parent_key: bytes | None, counter: int
) -> list[x509.Extension[x509.ExtensionType]]:
    """Those of a CA certificate; the path length lets as many CAs follow as the limit leaves."""
    public = Ed25519PublicKey.from_public_bytes(public_key)
    extensions = [
        _critical(x509.BasicConstraints(ca=True, path_length=1 + ROTATIONS_MAX - counter)),
        _critical(_usage(certificates=True)),
        _plain(x509.SubjectKeyIdentifier.from_public_key(public)),
    ]
    if parent_key is not None:
        issuer = Ed25519PublicKey.from_public_bytes(parent_key)
        extensions.append(_plain(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)))
    return extensions


def _critical(value: x509.ExtensionType) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, True, value)


def _plain(value: x509.ExtensionType) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, False, value)


def _dates(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: bytes, dates: tuple[datetime.datetime, datetime.datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(Ed25519PublicKey.from_public_bytes(public_key))
        .serial_number(x509.random_serial_number())
        .not_valid_before(dates[0])
        .not_valid_after(dates[1])
    )


def _signed(
    builder: x509.CertificateBuilder, extensions: Sequence[x509.Extension[x509.ExtensionType]], key: SigningKey
) -> x509.Certificate:
    for extension in extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key.private, None)


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
