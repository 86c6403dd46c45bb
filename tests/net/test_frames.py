"""Tensor frames: golden bytes, round trips, and no rubbish gets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadFrame
from peerinfer.net.frames import (
    FRAME_MAX_BYTES,
    HEADER_BYTES,
    Epoch,
    Row,
    StepFrame,
    decode_frame,
    encode_frame,
    is_frame,
    peek,
    stamped,
)

GOLDEN = StepFrame(
    instance=bytes(range(16)),
    epoch=Epoch(3, "aa" * 16, 5),
    step=7,
    rows=(Row(1, 2, 30, 2, True), Row(0, 9, 4, 1, False)),
    width=1,
    payload=np.array([1.5, -2.0, 0.25], "<f4").tobytes(),
    orders=b"\x90",
    sent_us=11,
)
GOLDEN_BYTES = (
    "8001000002000000010000000c000000030000000100000007000000000000000b000000000000000300000000000000"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0500000000000000000102030405060708090a0b0c0d0e0f"
    "01000100020000001e00000002000000"
    "00000000090000000400000001000000"
    "90"
    "0000c03f000000c00000803e"
)


def test_the_bytes_of_version_1_never_change() -> None:
    assert encode_frame(GOLDEN).hex() == GOLDEN_BYTES
    assert decode_frame(encode_frame(GOLDEN)) == GOLDEN


def test_routing_reads_the_head_alone() -> None:
    data = encode_frame(GOLDEN)
    head = peek(data)
    assert (head.instance, head.epoch, head.step, head.sent_us) == (GOLDEN.instance.hex(), GOLDEN.epoch, 7, 11)
    assert head.decode_rows == 0
    later = decode_frame(b"".join(stamped(memoryview(data), 99)))
    assert later.sent_us == 99
    assert later.payload == GOLDEN.payload


rows = st.lists(
    st.builds(
        Row,
        slot=st.integers(0, 2**16 - 1),
        generation=st.integers(0, 2**32 - 1),
        position=st.integers(0, 2**32 - 1),
        count=st.integers(1, 40),
        sample=st.booleans(),
    ),
    max_size=20,
).map(tuple)


@given(rows, st.integers(0, 8), st.binary(max_size=50), st.integers(0, 2**63))
def test_frames_survive_the_wire(rows: tuple[Row, ...], width: int, orders: bytes, step: int) -> None:
    payload = bytes(sum(row.count for row in rows) * 4 * (width or 1))
    frame = StepFrame(b"i" * 16, Epoch(1, "0b" * 16, 2), step, rows, width, payload, orders, -5)
    assert decode_frame(encode_frame(frame)) == frame
    assert is_frame(encode_frame(frame))


@given(st.integers(0, HEADER_BYTES + 60), st.integers(0, 255))
def test_a_changed_byte_gives_a_frame_or_a_clear_error(at: int, value: int) -> None:
    data = bytearray(encode_frame(GOLDEN))
    data[at % len(data)] = value
    try:
        frame = decode_frame(bytes(data))
    except BadFrame:
        return
    assert frame.tokens * 4 * (frame.width or 1) == len(frame.payload)


@given(st.binary(max_size=300))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(data)
    with pytest.raises(BadFrame):
        peek(data)


def test_limits_hold() -> None:
    with pytest.raises(BadFrame):
        decode_frame(bytes(FRAME_MAX_BYTES + 1))
    with pytest.raises(BadFrame, match="add up"):
        decode_frame(encode_frame(GOLDEN) + b"x")
