"""Tensor frames: one step of the ring as a fixed header, a row table, orders, and raw tensor bytes.

Layout, little-endian, in this order (`_HEADER` is the authority):

    u8  kind (0x80)      u8 wire version     u16 flags        u32 number of rows
    u32 orders bytes     u32 payload bytes   u32 tokens       u32 width (values per token; 0 = token ids)
    u64 step             i64 sent_us (sender's monotonic clock, microseconds)
    u64 ballot counter   16s ballot node     u64 n            the epoch: (minting ballot, n)
    16s instance
    rows × (u16 slot, u16 flags, u32 generation, u32 position, u32 count)
    orders (msgpack, mostly empty) · payload

A row is a run of `count` tokens of one sequence: they go to `slot` at `position …`. A frame's rows stand in the
order of its payload. The same bytes serve the link and the child's pipe, so a tensor is never re-encoded.
Control messages are msgpack arrays, whose first byte is 0x90–0x9f, 0xdc or 0xdd: 0x80 tells the two apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from peerinfer.errors import BadFrame

KIND_STEP: Final = 0x80
VERSION: Final = 1

FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
"""One frame: 1,024 tokens of a model 16,384 wide, in float32."""
ROWS_MAX: Final = 1024
TOKENS_MAX: Final = 65_536
ORDERS_MAX_BYTES: Final = 1024 * 1024

ROW_SAMPLE: Final = 1
"""Row flag: sample a token from the logits of this row's last token."""

_HEADER: Final = struct.Struct("<BBHIIIIIQqQ16sQ16s")
_ROW: Final = struct.Struct("<HHIII")
ID_BYTES: Final = 16
HEADER_BYTES: Final = _HEADER.size
_STAMP: Final = struct.Struct("<q")
_STAMP_AT: Final = struct.calcsize("<BBHIIIIIQ")


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Names one placement of one instance for ever: the ballot that minted it and a number under it."""

    counter: int
    node: str
    n: int


@dataclass(frozen=True, slots=True)
class Row:
    """A run of `count` tokens of one sequence, at positions `position … position + count - 1`."""

    slot: int
    generation: int
    position: int
    count: int
    sample: bool


@dataclass(frozen=True, slots=True)
class StepFrame:
    """One step: rows and their tensor. `width` 0 means that the payload is int32 token ids, else float32."""

    instance: bytes
    epoch: Epoch
    step: int
    rows: tuple[Row, ...]
    width: int
    payload: bytes | memoryview
    orders: bytes = b""
    sent_us: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all rows together."""
        return sum(row.count for row in self.rows)


def peek(data: bytes | memoryview) -> FrameHead:
    """What routing needs to know of an encoded frame, without decoding the rest. Raises `BadFrame`."""
    if len(data) < HEADER_BYTES:
        raise BadFrame("A tensor frame that is shorter than its header.")
    kind, version, _, rows, _, _, tokens, _, step, sent_us, counter, node, n, instance = _HEADER.unpack_from(data)
    if kind != KIND_STEP or version != VERSION:
        raise BadFrame("Not a tensor frame of this version.")
    return FrameHead(instance.hex(), Epoch(counter, node.hex(), n), step, sent_us, rows, tokens)


def stamped(data: memoryview, sent_us: int) -> tuple[memoryview, bytes, memoryview]:
    """An encoded frame in three parts, with `sent_us` in place of its stamp; the tensor is not copied."""
    return data[:_STAMP_AT], _STAMP.pack(sent_us), data[_STAMP_AT + _STAMP.size :]


@dataclass(frozen=True, slots=True)
class FrameHead:
    """An encoded frame's header, as far as routing needs it."""

    instance: str
    epoch: Epoch
    step: int
    sent_us: int
    rows: int
    tokens: int

    @property
    def decode_rows(self) -> int:
        """Number of rows if each is a single token, else 0: decode steps are what is measured."""
        return self.rows if self.rows == self.tokens else 0


def is_frame_id(text: str) -> bool:
    """Whether `text` can stand in a header as an instance or a node: 32 lower-case hexadecimal characters."""
    return len(text) == 2 * ID_BYTES and set(text) <= set("0123456789abcdef")


def is_frame(data: bytes | memoryview) -> bool:
    """Whether wire bytes are a tensor frame rather than a control message."""
    return len(data) > 0 and data[0] == KIND_STEP


def encode_head(frame: StepFrame) -> bytes:
    """Header, rows and orders: everything but the payload, which follows as it is."""
    head = _HEADER.pack(
        KIND_STEP,
        VERSION,
        0,
        len(frame.rows),
        len(frame.orders),
        len(frame.payload),
        frame.tokens,
        frame.width,
        frame.step,
        frame.sent_us,
        frame.epoch.counter,
        bytes.fromhex(frame.epoch.node),
        frame.epoch.n,
        frame.instance,
    )
    rows = b"".join(
        _ROW.pack(row.slot, ROW_SAMPLE if row.sample else 0, row.generation, row.position, row.count)
        for row in frame.rows
    )
    return head + rows + frame.orders


def encode_frame(frame: StepFrame) -> bytes:
    """The whole frame as wire bytes (one copy of the payload)."""
    return b"".join((encode_head(frame), frame.payload))


def decode_frame(data: bytes | memoryview) -> StepFrame:
    """The frame in `data`; its payload is a view into `data`. Raises `BadFrame`."""
    if not HEADER_BYTES <= len(data) <= FRAME_MAX_BYTES:
        raise BadFrame(f"A tensor frame of {len(data)} bytes is outside the limits.")
    (
        kind,
        version,
        _,
        n_rows,
        n_orders,
        n_payload,
        tokens,
        width,
        step,
        sent_us,
        counter,
        node,
        n,
        instance,
    ) = _HEADER.unpack_from(data)
    if kind != KIND_STEP or version != VERSION:
        raise BadFrame("Not a tensor frame of this version.")
    if n_rows > ROWS_MAX or tokens > TOKENS_MAX or n_orders > ORDERS_MAX_BYTES:
        raise BadFrame("A tensor frame with too many rows, tokens or orders.")
    start = HEADER_BYTES + n_rows * _ROW.size
    if start + n_orders + n_payload != len(data) or n_payload != tokens * 4 * (width or 1):
        raise BadFrame("A tensor frame whose lengths do not add up.")
    view = memoryview(data)
    rows = tuple(
        Row(slot, generation, position, count, bool(flags & ROW_SAMPLE))
        for slot, flags, generation, position, count in _ROW.iter_unpack(view[HEADER_BYTES:start])
    )
    if sum(row.count for row in rows) != tokens or any(row.count == 0 for row in rows):
        raise BadFrame("A tensor frame whose rows do not add up.")
    return StepFrame(
        instance=instance,
        epoch=Epoch(counter, node.hex(), n),
        step=step,
        rows=rows,
        width=width,
        payload=view[start + n_orders :],
        orders=bytes(view[start : start + n_orders]),
        sent_us=sent_us,
    )
