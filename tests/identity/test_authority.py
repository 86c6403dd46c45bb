"""The mesh CA: what it issues, what it refuses, and the hint that discovery shows."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509

from peerinfer.identity.authority import (
    HINT_BYTES,
    Authority,
    CertificateRequest,
    Generation,
    discovery_hint,
    public_key_in,
    to_der,
)
from peerinfer.identity.keys import SigningKey, node_id_of, verify

NOW = 1_800_000_000.0


def test_a_key_survives_pem_and_raw_and_signs():
    key = SigningKey.create()
    assert SigningKey.from_pem(key.to_pem()).public_key == key.public_key
    assert SigningKey.from_raw(key.raw).node_id == node_id_of(key.public_key)
    assert len(key.node_id) == 32
    signature = key.sign(b"data")
    assert verify(key.public_key, signature, b"data")
    assert not verify(key.public_key, signature, b"Data")
    assert not verify(key.public_key[:-1], signature, b"data")
    assert not verify(key.public_key, signature[:-1], b"data")


def test_the_founding_certificate_is_the_anchor():
    founder = SigningKey.create()
    authority = Authority.found(founder.node_id, NOW)
    again = Authority.from_parts(to_der(authority.certificate), authority.key, to_der(authority.founding))
    assert again.mesh_id == authority.mesh_id
    assert again.founder == founder.node_id
    assert again.generation == Generation(1, founder.node_id)
    assert Generation(2, "0") > Generation(1, "f")


def test_parts_of_two_authorities_do_not_mix():
    one, other = (Authority.found(SigningKey.create().node_id, NOW) for _ in range(2))
    with pytest.raises(ValueError, match="another key"):
        Authority.from_parts(to_der(one.certificate), other.key, to_der(one.founding))
    with pytest.raises(ValueError, match="founding"):
        Authority.from_parts(to_der(one.certificate), one.key, to_der(other.founding))


def test_a_leaf_is_for_the_key_that_asked():
    authority = Authority.found(SigningKey.create().node_id, NOW)
    joiner = SigningKey.create()
    leaf = authority.issue(CertificateRequest.signed(joiner, "joiner", authority.mesh_id), NOW)
    certificate = x509.load_der_x509_certificate(leaf)
    assert public_key_in(certificate) == joiner.public_key
    assert authority.vouches_for(leaf, joiner.public_key)
    assert not authority.vouches_for(leaf, SigningKey.create().public_key)
    assert not Authority.found(joiner.node_id, NOW).vouches_for(leaf, joiner.public_key)
    assert not authority.vouches_for(b"garbage", joiner.public_key)
    made = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    assert (made - certificate.not_valid_before_utc).days >= 2
    assert (certificate.not_valid_after_utc - made).days >= 19 * 365


def test_an_unproven_request_gets_nothing():
    authority = Authority.found(SigningKey.create().node_id, NOW)
    joiner, thief = SigningKey.create(), SigningKey.create()
    signed = CertificateRequest.signed(joiner, "joiner", authority.mesh_id)
    elsewhere = CertificateRequest.signed(joiner, "joiner", "00" * 16)
    for bad in (
        CertificateRequest(thief.public_key, signed.name, signed.signature),
        CertificateRequest(signed.public_key, "another name", signed.signature),
        elsewhere,
    ):
        with pytest.raises(ValueError, match="not signed"):
            authority.issue(bad, NOW)
    assert CertificateRequest.from_bytes(signed.to_bytes()) == signed


def test_the_hint_changes_with_mesh_secret_and_hour():
    authority = Authority.found(SigningKey.create().node_id, NOW)
    secret = authority.hint_secret
    hint = discovery_hint(authority.mesh_id, secret, 7)
    assert len(hint) == HINT_BYTES
    assert hint == discovery_hint(authority.mesh_id, secret, 7)
    others = {
        discovery_hint(authority.mesh_id, secret, 8),
        discovery_hint("00" * 16, secret, 7),
        discovery_hint(authority.mesh_id, bytes(32), 7),
    }
    assert hint not in others
    assert len(others) == 3
