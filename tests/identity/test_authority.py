"""The mesh CA: what it issues, what it refuses, and the hint that discovery shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from peerinfer.errors import RotationsUsedUp
from peerinfer.identity.authority import HINT_BYTES, Authority, CertificateRequest, discovery_hint
from peerinfer.identity.certificates import ROTATIONS_MAX, public_key_in, to_der
from peerinfer.identity.keys import SigningKey, node_id_of, verify
from peerinfer.identity.rotation import Rotation
from peerinfer.identity.succession import Generation

NOW = 1_800_000_000.0
REMOVED = "ab" * 16


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
    authority = Authority.found(founder.node_id)
    again = Authority.from_parts(authority.to_parts(), to_der(authority.founding))
    assert again.mesh_id == authority.mesh_id
    assert again.founder == founder.node_id
    assert again.generation == Generation(1, founder.node_id)
    assert Generation(2, "0") > Generation(1, "f")


def test_parts_of_two_authorities_do_not_mix():
    one, other = (Authority.found(SigningKey.create().node_id) for _ in range(2))
    with pytest.raises(ValueError, match="another key"):
        Authority.from_parts(other.to_parts(), to_der(one.founding))


def successor_of(authority: Authority, *covers: str) -> tuple[SigningKey, Authority]:
    node = SigningKey.create()
    return node, authority.successor(node, frozenset(covers))


def test_a_rotated_ca_keeps_the_mesh_and_proves_its_maker():
    first = Authority.found(SigningKey.create().node_id)
    node, second = successor_of(first, REMOVED)
    again = Authority.from_parts(second.to_parts(), to_der(first.founding))
    assert again.standing == second.standing
    assert (again.mesh_id, again.founder) == (first.mesh_id, first.founder)
    assert again.generation == Generation(2, node.node_id)
    assert again.standing.covers == {REMOVED}
    assert again.hint_secret != first.hint_secret
    assert repr(second.key.raw) not in repr(second.to_parts())


def test_a_leaf_is_of_one_ca_only():
    first = Authority.found(SigningKey.create().node_id)
    _, second = successor_of(first)
    key = SigningKey.create().public_key
    assert second.vouches_for(second.issue_to(key), key)
    assert not second.vouches_for(first.issue_to(key), key)
    assert not first.vouches_for(second.issue_to(key), key)


def test_what_does_not_hold_together_is_refused():
    first = Authority.found(SigningKey.create().node_id)
    founding = to_der(first.founding)
    node, second = successor_of(first)
    _, rival = successor_of(first)
    good, other = second.to_parts(), rival.to_parts()
    elsewhere = Rotation.signed(node, "00" * 16, good.chain[0], frozenset())
    stolen = Rotation.signed(SigningKey.create(), first.mesh_id, good.chain[0], frozenset())
    for bad, reason in (
        (replace(good, key=other.key), "another key"),
        (replace(good, key=b"short"), r"."),
        (replace(good, rotation=b""), "comes with its maker's statement"),
        (replace(first.to_parts(), rotation=good.rotation), "comes with its maker's statement"),
        (replace(good, rotation=other.rotation), "about another CA"),
        (replace(good, rotation=stolen.to_bytes()), "about another CA"),
        (replace(good, rotation=elsewhere.to_bytes()), "not signed by the CA's maker"),
        (replace(good, rotation=b"garbage"), r"."),
        (replace(good, chain=(b"garbage",)), r"."),
        (replace(good, chain=(good.chain[0], other.chain[0])), "place in the chain"),
        (replace(good, chain=good.chain * 65), "at most 64"),
    ):
        with pytest.raises(ValueError, match=reason):
            Authority.from_parts(bad, founding)
    with pytest.raises(ValueError, match=r"form|not signed"):
        Authority.from_parts(good, to_der(Authority.found(first.founder).founding))


def test_the_last_ca_says_what_to_do():
    node = SigningKey.create()
    authority = Authority.found(node.node_id)
    for _ in range(ROTATIONS_MAX):
        assert authority.is_rotatable
        authority = authority.successor(node, frozenset())
    assert Authority.from_parts(authority.to_parts(), to_der(authority.founding)).standing == authority.standing
    with pytest.raises(RotationsUsedUp, match=r"64 times.*peerinfer leave"):
        authority.successor(node, frozenset())


def test_a_leaf_is_for_the_key_that_asked():
    authority = Authority.found(SigningKey.create().node_id)
    joiner = SigningKey.create()
    leaf = authority.issue(CertificateRequest.signed(joiner, "joiner", authority.mesh_id))
    certificate = x509.load_der_x509_certificate(leaf)
    assert public_key_in(certificate) == joiner.public_key
    assert authority.vouches_for(leaf, joiner.public_key)
    assert not authority.vouches_for(leaf, SigningKey.create().public_key)
    assert not Authority.found(joiner.node_id).vouches_for(leaf, joiner.public_key)
    assert not authority.vouches_for(b"garbage", joiner.public_key)


def test_an_unproven_request_gets_nothing():
    authority = Authority.found(SigningKey.create().node_id)
    joiner, thief = SigningKey.create(), SigningKey.create()
    signed = CertificateRequest.signed(joiner, "joiner", authority.mesh_id)
    elsewhere = CertificateRequest.signed(joiner, "joiner", "00" * 16)
    for bad in (
        CertificateRequest(thief.public_key, signed.name, signed.signature),
        CertificateRequest(signed.public_key, "another name", signed.signature),
        elsewhere,
    ):
        with pytest.raises(ValueError, match="not signed"):
            authority.issue(bad)
    assert CertificateRequest.from_bytes(signed.to_bytes()) == signed


def test_the_hint_changes_with_mesh_secret_and_hour():
    authority = Authority.found(SigningKey.create().node_id)
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
