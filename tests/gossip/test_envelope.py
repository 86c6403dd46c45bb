"""The signed envelope: golden bytes, and everything that is not exactly what a member sealed is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import BadFrame, LinkError, NotTrusted
from peerinfer.gossip.envelope import (
    ENVELOPE_MAX_BYTES,
    PAYLOAD_MAX_BYTES,
    Verify,
    open_envelope,
    seal,
    signed_bytes,
)
from peerinfer.gossip.table import SnapshotTable
from peerinfer.identity.keys import SigningKey, verify
from peerinfer.identity.roster import Roster
from peerinfer.packing import pack, unpack

KEY = SigningKey.from_raw(bytes(range(32)))
OTHER_KEY = SigningKey.from_raw(bytes(range(1, 33)))
MESH = "aa" * 16
ROSTER = Roster.of(MESH, KEY.node_id).admitting(KEY, KEY.public_key, "one")


def verifier(roster: Roster) -> Verify:
    """Checks signatures against the members of a roster."""

    def check(node: str, message: bytes, signature: bytes) -> bool:
        member = roster.members.get(node)
        return member is not None and verify(member.public_key, signature, message)

    return check


VERIFY = verifier(ROSTER)
PAYLOAD = pack({"name": "one", "version": "1", "memory_bytes": 8, "memory_free_bytes": 4})
GOLDEN = bytes.fromhex(
    "9601c41056475aa75463474c0285df5dbf2bcab70307c43584a46e616d65a36f6e65a776657273696f6ea131ac6d656d"
    "6f72795f627974657308b16d656d6f72795f667265655f627974657304c440b1a13342d659ca6de8cfc3e1298d8472c2"
    "f3011f23161db7d72333688d7fd1aa4182691120abe111cb6841e26496ebd14eb3db1a244919545794833b90477407"
)


def sealed(incarnation: int = 3, sequence: int = 7, mesh: str = MESH, payload: bytes = PAYLOAD) -> bytes:
    return seal(mesh, KEY.node_id, incarnation, sequence, payload=payload, sign=KEY.sign)


def test_the_bytes_on_the_wire_stay_as_they_are() -> None:
    assert sealed() == GOLDEN
    assert open_envelope(GOLDEN, MESH, VERIFY).payload == PAYLOAD


def test_the_signed_message_is_the_one_of_the_protocol() -> None:
    expected = b"peerinfer/snapshot/v1\0" + b"\xaa" * 16 + bytes.fromhex(KEY.node_id)
    expected += (3).to_bytes(8, "big") + (7).to_bytes(8, "big") + len(PAYLOAD).to_bytes(4, "big") + PAYLOAD
    assert signed_bytes(MESH, KEY.node_id, 3, 7, PAYLOAD) == expected


def test_an_envelope_keeps_the_bytes_it_came_in() -> None:
    envelope = open_envelope(GOLDEN, MESH, VERIFY)
    assert (envelope.data, envelope.node, envelope.mark) == (GOLDEN, KEY.node_id, (3, 7))


def test_an_envelope_of_another_mesh_is_refused() -> None:
    with pytest.raises(NotTrusted):
        open_envelope(sealed(mesh="bb" * 16), MESH, VERIFY)


def test_an_envelope_of_no_member_is_refused() -> None:
    data = seal(MESH, OTHER_KEY.node_id, 1, 1, payload=PAYLOAD, sign=OTHER_KEY.sign)
    with pytest.raises(NotTrusted):
        open_envelope(data, MESH, VERIFY)


def test_an_envelope_that_another_member_signed_is_refused() -> None:
    roster = ROSTER.admitting(KEY, OTHER_KEY.public_key, "two")
    data = seal(MESH, KEY.node_id, 1, 1, payload=PAYLOAD, sign=OTHER_KEY.sign)
    with pytest.raises(NotTrusted):
        open_envelope(data, MESH, verifier(roster))


def test_a_signature_for_another_purpose_is_no_envelope() -> None:
    message = signed_bytes(MESH, KEY.node_id, 3, 7, PAYLOAD).replace(b"snapshot", b"roster..")
    data = pack([1, bytes.fromhex(KEY.node_id), 3, 7, PAYLOAD, KEY.sign(message)])
    with pytest.raises(NotTrusted):
        open_envelope(data, MESH, VERIFY)


def test_a_removed_member_s_envelope_is_refused_from_then_on() -> None:
    roster = ROSTER.admitting(KEY, OTHER_KEY.public_key, "two")
    data = seal(MESH, OTHER_KEY.node_id, 1, 1, payload=PAYLOAD, sign=OTHER_KEY.sign)
    assert open_envelope(data, MESH, verifier(roster)).node == OTHER_KEY.node_id
    removed = roster.removing(KEY, OTHER_KEY.node_id)
    with pytest.raises(NotTrusted):
        open_envelope(data, MESH, verifier(removed))


@settings(max_examples=300)
@given(st.integers(0, len(GOLDEN) * 8 - 1))
def test_no_flipped_bit_is_accepted(bit: int) -> None:
    data = bytearray(GOLDEN)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LinkError):
        open_envelope(bytes(data), MESH, VERIFY)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_error_of_the_sender(data: bytes) -> None:
    with pytest.raises(LinkError):
        open_envelope(data, MESH, VERIFY)


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("value", [None, True, -1, 2**63, "text", b"", b"x" * 17, [], 1.5])
def test_a_field_of_another_type_or_size_is_refused(field: int, value: object) -> None:
    items = unpack(GOLDEN, ENVELOPE_MAX_BYTES)
    assert isinstance(items, list)
    items[field] = value
    with pytest.raises(LinkError):
        open_envelope(pack(items), MESH, VERIFY)


def test_a_payload_over_the_limit_is_refused_on_either_side() -> None:
    with pytest.raises(BadFrame):
        sealed(payload=b"x" * (PAYLOAD_MAX_BYTES + 1))
    items = [1, bytes.fromhex(KEY.node_id), 1, 1, b"x" * (PAYLOAD_MAX_BYTES + 1), b"s" * 64]
    with pytest.raises(BadFrame):
        open_envelope(pack(items), MESH, VERIFY)


def test_a_replayed_envelope_changes_nothing_whatever_the_order() -> None:
    marks = [(1, 1), (1, 2), (1, 9), (2, 1), (2, 2)]
    envelopes = [open_envelope(sealed(*mark), MESH, VERIFY) for mark in marks]
    for seed in range(50):
        chance = random.Random(seed)
        table = SnapshotTable()
        newest = (0, 0)
        for envelope in chance.choices(envelopes, k=20):
            accepted = table.offer(envelope) is not None
            assert accepted == (envelope.mark > newest)
            newest = max(newest, envelope.mark)


def test_a_forgotten_member_s_old_snapshot_does_not_return() -> None:
    table = SnapshotTable()
    envelope = open_envelope(sealed(), MESH, VERIFY)
    assert table.offer(envelope) is not None
    table.keep_only([])
    assert table.entry(KEY.node_id) is None
    assert table.offer(envelope) is None
