"""The statement of a new CA's maker: signed for one mesh, and strict about what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.identity import rotation as rotation_module
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.rotation import CERTIFICATE_MAX_BYTES, ROTATION_MAX_BYTES, Rotation
from peerinfer.packing import pack

MESH = "ab" * 16
KEY = SigningKey.from_raw(b"\x01" * 32)
COVERS = frozenset({"00" * 16, "11" * 16})
GOLDEN = (
    "92c44d93c4208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5cc4036465729"
    "2c41000000000000000000000000000000000c41011111111111111111111111111111111c440"
)
"""All but the signature."""


def test_it_survives_the_wire_and_says_who_made_what():
    rotation = Rotation.signed(KEY, MESH, b"der", COVERS)
    assert rotation.to_bytes().hex().startswith(GOLDEN)
    again = Rotation.from_bytes(rotation.to_bytes())
    assert again == rotation
    assert (again.issuer, again.certificate, again.covers) == (KEY.node_id, b"der", COVERS)
    assert again.is_signed_for(MESH)
    assert not again.is_signed_for("cd" * 16)


def test_every_flipped_bit_is_refused():
    data = Rotation.signed(KEY, MESH, b"der", COVERS).to_bytes()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert not Rotation.from_bytes(bytes(flipped)).is_signed_for(MESH), f"bit {bit}"
        except ValueError:
            continue


def body(*fields: object) -> bytes:
    return pack([pack(list(fields)), bytes(64)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pack([b"body"]),
        pack([pack([KEY.public_key, b"der", []]), bytes(63)]),
        body(KEY.public_key, b"der"),
        body(KEY.public_key[1:], b"der", []),
        body(KEY.public_key, "der", []),
        body(KEY.public_key, b"der", None),
        body(KEY.public_key, b"der", [bytes(15)]),
        body(KEY.public_key, b"der", ["00" * 16]),
        body(KEY.public_key, b"der", [bytes(16), bytes(16)]),
        body(KEY.public_key, bytes(CERTIFICATE_MAX_BYTES + 1), []),
        body(KEY.public_key, b"der", [number.to_bytes(16, "big") for number in range(1025)]),
        bytes(ROTATION_MAX_BYTES + 1),
    ],
)
def test_what_is_no_statement_is_refused(data: bytes):
    with pytest.raises(ValueError, match=r"."):
        Rotation.from_bytes(data)


def test_no_ca_covers_its_own_maker():
    with pytest.raises(ValueError, match="its own maker"):
        Rotation.signed(KEY, MESH, b"der", frozenset({KEY.node_id}))


def test_the_largest_fits():
    most = frozenset(f"{number:032x}" for number in range(rotation_module.STATEMENTS_MAX))
    rotation = Rotation.signed(KEY, MESH, bytes(CERTIFICATE_MAX_BYTES), most)
    assert Rotation.from_bytes(rotation.to_bytes()).covers == most


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes):
    with pytest.raises(ValueError, match=r"."):
        Rotation.from_bytes(data)
