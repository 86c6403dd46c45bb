"""The chain of a mesh's CAs: what is made passes, and nothing else does."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from peerinfer.identity import certificates
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
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.succession import Generation

NOW = 1_800_000_000.0
NODE = "0123456789abcdef" * 2
FIRST = SigningKey.create()
FOUNDING = founding_certificate(FIRST, NODE)


def grown(count: int) -> tuple[list[SigningKey], list[x509.Certificate]]:
    """Keys and certificates of a mesh after `count` rotations, the founding ones first."""
    keys, chain = [FIRST], [FOUNDING]
    for _ in range(count):
        key = SigningKey.create()
        chain.append(rotated_certificate(key, NODE, chain[-1], keys[-1]))
        keys.append(key)
    return keys, chain


def test_a_chain_leads_back_to_the_founding_certificate():
    keys, chain = grown(3)
    check_chain(chain[::-1])
    check_chain(chain[:1])
    assert [generation_in(each) for each in chain] == [Generation(n, NODE) for n in (1, 2, 3, 4)]
    leaf = leaf_certificate(FIRST.public_key, chain[-1], keys[-1])
    assert directly_issued(leaf, chain[-1])
    assert not directly_issued(leaf, chain[-2])
    assert load_der(to_der(leaf)) == leaf


def test_all_have_the_dates_of_the_mesh():
    keys, chain = grown(1)
    leaf = leaf_certificate(FIRST.public_key, chain[-1], keys[-1])
    made = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    for each in (*chain, leaf):
        assert (made - each.not_valid_before_utc).days >= 2
        assert (each.not_valid_after_utc - made).days >= 40 * 365


def test_there_is_a_last_one():
    _, chain = grown(ROTATIONS_MAX)
    check_chain(chain[::-1])
    with pytest.raises(ValueError, match=f"at most {ROTATIONS_MAX}"):
        check_chain([chain[-1], *chain[::-1]])
    with pytest.raises(ValueError, match="at most"):
        check_chain([])


def forged(change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] | None = None) -> x509.Certificate:
    """A second CA, with something changed before it is signed with the right key."""
    key = SigningKey.create()
    real = rotated_certificate(key, NODE, FOUNDING, FIRST)
    builder = certificates._builder(real.subject, FOUNDING.subject, key.public_key, certificates._dates(real))
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return (change(builder) if change else builder).sign(FIRST.private, None)


def renamed(attributes: dict[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])


ORGANISATION, COMMON, SERIAL = x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME, x509.NameOID.SERIAL_NUMBER


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ({ORGANISATION: "peerinfer mesh", COMMON: NODE, SERIAL: "3"}, "place in the chain"),
        ({ORGANISATION: "peerinfer mesh", COMMON: NODE, SERIAL: "02x"}, "names no generation"),
        ({ORGANISATION: "peerinfer mesh", COMMON: NODE, SERIAL: "02"}, "form"),
        ({ORGANISATION: "another", COMMON: NODE, SERIAL: "2"}, "form"),
        ({COMMON: NODE[1:], SERIAL: "2"}, "names no generation"),
        ({COMMON: NODE}, "names no generation"),
    ],
)
def test_another_subject_is_refused(subject: dict[x509.ObjectIdentifier, str], reason: str):
    check_chain([forged(), FOUNDING])
    with pytest.raises(ValueError, match=reason):
        check_chain([forged(lambda builder: _with(builder, "_subject_name", renamed(subject))), FOUNDING])


def _with(builder: x509.CertificateBuilder, name: str, value: object) -> x509.CertificateBuilder:
    setattr(builder, name, value)
    return builder


def test_other_extensions_dates_or_keys_are_refused():
    more = x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=[x509.DNSName("x")])
    with pytest.raises(ValueError, match="form"):
        check_chain([forged(lambda builder: builder.add_extension(more, critical=True)), FOUNDING])
    later = FOUNDING.not_valid_before_utc + datetime.timedelta(days=1)
    with pytest.raises(ValueError, match="form"):
        check_chain([forged(lambda builder: _with(builder, "_not_valid_before", later.replace(tzinfo=None))), FOUNDING])
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ValueError, match="Ed25519"):
        check_chain([forged(lambda builder: _with(builder, "_public_key", other)), FOUNDING])


def test_extensions_that_cannot_be_read_are_refused():
    unreadable = x509.UnrecognizedExtension(ExtensionOID.BASIC_CONSTRAINTS, b"garbage")

    def spoil(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        return _with(builder, "_extensions", []).add_extension(unreadable, critical=True)

    with pytest.raises(ValueError, match="cannot be read"):
        check_chain([forged(spoil), FOUNDING])


def test_a_ca_that_another_key_signed_is_refused():
    thief = SigningKey.create()
    with pytest.raises(ValueError, match=r"form|not signed"):
        check_chain([rotated_certificate(thief, NODE, FOUNDING, thief), FOUNDING])
    key = SigningKey.create()
    real = rotated_certificate(key, NODE, FOUNDING, FIRST)
    der = bytearray(to_der(real))
    der[-1] ^= 1
    with pytest.raises(ValueError, match="not signed by the CA before it"):
        check_chain([load_der(bytes(der)), FOUNDING])


def test_a_leaf_is_no_ca():
    leaf = leaf_certificate(FIRST.public_key, FOUNDING, FIRST)
    assert public_key_in(leaf) == FIRST.public_key
    with pytest.raises(ValueError, match="names no generation"):
        check_chain([leaf, FOUNDING])
