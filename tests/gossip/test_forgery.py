"""A hundred thousand envelopes that nobody sealed for this place and time: none is accepted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from peerinfer.errors import LinkError
from peerinfer.gossip.envelope import open_envelope, seal, signed_bytes
from peerinfer.gossip.snapshot import Device, Snapshot
from peerinfer.gossip.snapshot_codec import encode_snapshot
from peerinfer.gossip.table import SnapshotTable
from peerinfer.identity.authority import CertificateRequest
from peerinfer.identity.keys import SigningKey, verify
from peerinfer.identity.roster import Admit, Statement
from peerinfer.packing import pack, unpack

MESH, FOREIGN = "aa" * 16, "bb" * 16
KEYS = [SigningKey.from_raw(bytes([number]) * 32) for number in range(1, 5)]
MEMBERS = {key.node_id: key.public_key for key in KEYS[:3]}
STRANGER = KEYS[3]
EACH = 20_000

Forge = Callable[[random.Random], bytes]


def check(node: str, message: bytes, signature: bytes) -> bool:
    return node in MEMBERS and verify(MEMBERS[node], signature, message)


def payload(number: int) -> bytes:
    return encode_snapshot(Snapshot(f"n{number}", "1", 16, number, devices=(Device("cpu", "a processor", cores=4),)))


def sealed(key: SigningKey, sequence: int, mesh: str = MESH, incarnation: int = 1) -> bytes:
    return seal(mesh, key.node_id, incarnation, sequence, payload=payload(sequence), sign=key.sign)


GENUINE = [[sealed(key, sequence) for sequence in range(1, 101)] for key in KEYS[:3]]


def replayed(chance: random.Random) -> bytes:
    """What was accepted before, in any order."""
    return chance.choice(chance.choice(GENUINE))


def flipped(chance: random.Random) -> bytes:
    """One to three bits of a genuine envelope, the newest or not, are others."""
    data = bytearray(replayed(chance))
    for bit in chance.sample(range(len(data) * 8), chance.randrange(1, 4)):
        data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


_FOREIGN = [sealed(key, 1000 + number, FOREIGN) for key in KEYS[:3] for number in range(50)]


def from_another_mesh(chance: random.Random) -> bytes:
    """Sealed by a member, newer than all, for another mesh."""
    return chance.choice(_FOREIGN)


def _for_other_purposes() -> list[bytes]:
    """Signatures of a member over the very bytes, but in the domains of other uses; and other signed things."""
    found: list[bytes] = []
    for number in range(50):
        key = KEYS[number % 3]
        body, mark = payload(number), (1, 1000 + number)
        message = signed_bytes(MESH, key.node_id, *mark, body)
        domain, _, rest = message.partition(b"\0")
        assert domain == b"peerinfer/snapshot/v1"
        for other in (b"roster", b"intent", b"certificate-request", b"authority", b""):
            signature = key.sign(b"peerinfer/" + other + b"/v1\0" + rest)
            found.append(pack([1, bytes.fromhex(key.node_id), *mark, body, signature]))
        statement = Statement.signed(key, MESH, Admit(STRANGER.public_key, "n"))
        request = CertificateRequest.signed(key, "n", MESH)
        for text, signature in ((statement.body, statement.signature), (request.public_key, request.signature)):
            found.append(pack([1, bytes.fromhex(key.node_id), *mark, text, signature]))
    return found


_MISUSED = _for_other_purposes()


def for_another_purpose(chance: random.Random) -> bytes:
    """A member's signature that was made for something else."""
    return chance.choice(_MISUSED)


_STRANGE = [sealed(STRANGER, 1000 + number) for number in range(50)]


def patched(chance: random.Random) -> bytes:
    """Parts of genuine envelopes put together anew: another's name, mark or payload; a stranger's seal."""
    if chance.random() < 0.2:
        return chance.choice(_STRANGE)
    one, other = unpack(replayed(chance), 70_000), unpack(replayed(chance), 70_000)
    assert isinstance(one, list)
    assert isinstance(other, list)
    place = chance.randrange(1, 5)
    one[place] = other[place] if place in (1, 4) else chance.randrange(101, 10_000)
    return pack(one)


def test_none_of_a_hundred_thousand_is_accepted() -> None:
    table = SnapshotTable()
    for envelopes in GENUINE:
        for data in envelopes:
            assert table.offer(open_envelope(data, MESH, check)) is not None
    before = table.marks()
    chance = random.Random(20)
    accepted: Counter[str] = Counter()
    forges: tuple[Forge, ...] = (replayed, flipped, from_another_mesh, for_another_purpose, patched)
    for forge in forges:
        for _ in range(EACH):
            accepted[forge.__name__] += _is_accepted(table, forge(chance))
    assert sum(accepted.values()) == 0, accepted
    assert table.marks() == before
    assert EACH * len(forges) == 100_000


def _is_accepted(table: SnapshotTable, data: bytes) -> bool:
    try:
        return table.offer(open_envelope(data, MESH, check)) is not None
    except LinkError:
        return False


def test_a_snapshot_s_signature_is_none_for_anything_else() -> None:
    key = KEYS[0]
    body = payload(1)
    signature = key.sign(signed_bytes(MESH, key.node_id, 1, 1, body))
    genuine = Statement.signed(key, MESH, Admit(STRANGER.public_key, "n"))
    assert genuine.is_signed_for(MESH)
    assert not Statement(genuine.body, signature, genuine.issuer_key, genuine.claim).is_signed_for(MESH)
    assert CertificateRequest.signed(key, "n", MESH).is_proven(MESH)
    assert not CertificateRequest(key.public_key, "n", signature).is_proven(MESH)
