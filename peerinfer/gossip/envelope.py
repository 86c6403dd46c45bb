"""The signed envelope of a snapshot: sealed by its node, checked by anybody, forwarded as the same bytes.

On the wire: msgpack `[version, node id (16 bytes), incarnation, sequence, payload, signature]`. The Ed25519 signature
stands over `"peerinfer/snapshot/v1\\0" ‖ mesh id ‖ node id ‖ incarnation ‖ sequence ‖ length ‖ payload`, numbers
big-endian (u64, u64, u32). msgpack is not canonical, so what is verified are the bytes received: nothing is encoded
again, and the payload is decoded only after its signature holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from peerinfer.errors import BadFrame, NotTrusted
from peerinfer.packing import pack, unpack

Sign = Callable[[bytes], bytes]
"""Signs a message with this node's Ed25519 key."""
Verify = Callable[[str, bytes, bytes], bool]
"""(node id, message, signature) → whether that node is a member of the mesh and signed the message."""

DOMAIN: Final = b"peerinfer/snapshot/v1\0"
"""Parts these signatures from all others that the same key makes."""
VERSION: Final = 1
PAYLOAD_MAX_BYTES: Final = 64 * 1024
"""One snapshot. 32 nodes that push every 2 s stay under 1 MB/s at each even if all snapshots are that large."""
ENVELOPE_MAX_BYTES: Final = PAYLOAD_MAX_BYTES + 256
"""A payload and what stands around it: 16 + 8 + 8 + 64 bytes and msgpack's own."""
COUNTER_MAX: Final = 2**63 - 1
"""Incarnations and sequences fit a signed 64-bit number in every language."""
ID_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64

_COUNTERS = struct.Struct(">QQI")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed snapshot, believed once its signature is checked."""

    node: str
    incarnation: int
    """Durable count of the node's starts: greater after each."""
    sequence: int
    """Number of the snapshot in its incarnation."""
    payload: bytes
    signature: bytes
    data: bytes
    """The bytes received, to be forwarded unchanged."""

    @property
    def mark(self) -> tuple[int, int]:
        """What orders the snapshots of one node."""
        return (self.incarnation, self.sequence)


def signed_bytes(mesh_id: str, node_id: str, incarnation: int, sequence: int, payload: bytes) -> bytes:
    """The message under the signature."""
    counters = _COUNTERS.pack(incarnation, sequence, len(payload))
    return b"".join((DOMAIN, bytes.fromhex(mesh_id), bytes.fromhex(node_id), counters, payload))


def seal(mesh_id: str, node_id: str, incarnation: int, sequence: int, *, payload: bytes, sign: Sign) -> bytes:
    """The envelope around `payload`. Raises `BadFrame` if the payload is over `PAYLOAD_MAX_BYTES`."""
    if len(payload) > PAYLOAD_MAX_BYTES:
        raise BadFrame(f"A snapshot of {len(payload)} bytes is over the limit of {PAYLOAD_MAX_BYTES}.")
    signature = sign(signed_bytes(mesh_id, node_id, incarnation, sequence, payload))
    return pack([VERSION, bytes.fromhex(node_id), incarnation, sequence, payload, signature])


def open_envelope(data: bytes, mesh_id: str, verify: Verify) -> Envelope:
    """The envelope in `data`, its signature checked for this mesh.

    Raises `BadFrame` for bytes that are no envelope, `NotTrusted` if the signature does not hold or its node is
    no member. The payload is not looked at.
    """
    envelope = read_envelope(data)
    check_envelope(envelope, mesh_id, verify)
    return envelope


def read_envelope(data: bytes) -> Envelope:
    """The parts of `data`, of which nothing may be believed before `check_envelope`. Raises `BadFrame`."""
    return Envelope(*_parts(data), bytes(data))


def check_envelope(envelope: Envelope, mesh_id: str, verify: Verify) -> None:
    """Raises `NotTrusted` unless a member of this mesh sealed the envelope."""
    node, incarnation, sequence = envelope.node, envelope.incarnation, envelope.sequence
    if not verify(node, signed_bytes(mesh_id, node, incarnation, sequence, envelope.payload), envelope.signature):
        raise NotTrusted("A snapshot was refused: its signature is not that of a member of this mesh.")


def _parts(data: bytes) -> tuple[str, int, int, bytes, bytes]:
    try:
        raw = unpack(data, ENVELOPE_MAX_BYTES)
    except ValueError as error:
        raise BadFrame(f"Not a snapshot envelope: {error}.") from None
    items = cast(list[object], raw) if isinstance(raw, list) else []
    if len(items) != 6 or type(items[0]) is not int or items[0] != VERSION:
        raise BadFrame("Not a snapshot envelope of this version.")
    _, node, incarnation, sequence, payload, signature = items
    if not (isinstance(node, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise BadFrame("A snapshot envelope whose fields have the wrong types.")
    if type(incarnation) is not int or type(sequence) is not int:
        raise BadFrame("A snapshot envelope whose counters are no numbers.")
    if len(node) != ID_BYTES or len(signature) != SIGNATURE_BYTES or len(payload) > PAYLOAD_MAX_BYTES:
        raise BadFrame("A snapshot envelope whose fields have the wrong lengths.")
    if not (0 <= incarnation <= COUNTER_MAX and 0 <= sequence <= COUNTER_MAX):
        raise BadFrame("A snapshot envelope whose counters are out of range.")
    return node.hex(), incarnation, sequence, payload, signature
