"""The heaviest headers that the reader takes: every limit of it reached, alone and together."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.models.hostile import MIB, array
from tests.models.raw_gguf import STRING, RawGguf, key, tensor, text

ENTRIES = 65_536
ROOM = 1 << 16
"""Left of the whole header for all that is not the array."""


def _text(value: bytes) -> bytes:
    return struct.pack("<I", STRING) + text(value)


def many_keys_and_tensors() -> bytes:
    """As many of both as may be, of four dimensions each."""
    keys = [key(f"{index:x}", struct.pack("<IB", 0, 1)) for index in range(ENTRIES)]
    tensors = [tensor(f"{index:x}", (1, 1, 1, 8), offset=32 * index) for index in reversed(range(ENTRIES))]
    return RawGguf(keys=keys, tensors=tensors, data=bytes(32 * ENTRIES)).to_bytes()


def wide_texts() -> bytes:
    """Texts in which one sign makes every other one four bytes wide, once they are decoded."""
    one = _text("😀".encode() + b"a" * (MIB - 8))
    return RawGguf(keys=[key(f"{index:x}", one) for index in range(15)]).to_bytes()


def texts_that_are_no_text() -> bytes:
    """Texts of which every byte must be replaced, and becomes two."""
    return RawGguf(keys=[key(f"{index:x}", _text(b"\xff" * (MIB - 4))) for index in range(15)]).to_bytes()


def many_texts() -> bytes:
    """As many texts in arrays as may be."""
    return RawGguf(keys=[key("texts", array(STRING, 2 * MIB, bytes(16 * MIB)))]).to_bytes()


def long_texts_in_an_array() -> bytes:
    """An array of texts that fills the header."""
    one = text(bytes(MIB - 8))
    return RawGguf(keys=[key("texts", array(STRING, 63, one * 63))]).to_bytes()


def numbers() -> bytes:
    """An array of numbers that fills the header."""
    n_bytes = 64 * MIB - ROOM
    return RawGguf(keys=[key("numbers", array(10, n_bytes // 8, bytes(n_bytes)))]).to_bytes()


def truth_values() -> bytes:
    """As many truth values as the header has room for, in arrays of the greatest length."""
    keys = [key(f"{index}", array(7, 16 * MIB - ROOM, bytes(16 * MIB - ROOM))) for index in range(4)]
    return RawGguf(keys=keys).to_bytes()


def all_together() -> bytes:
    """Keys, tensors, wide texts, texts in arrays, and numbers for the rest of the header."""
    keys = [key(f"{index:x}", struct.pack("<IB", 0, 1)) for index in range(ENTRIES - 20)]
    keys += [key(f"text.{index}", _text("😀".encode() + b"a" * (MIB - 8))) for index in range(12)]
    keys.append(key("texts", array(STRING, 2 * MIB, bytes(16 * MIB))))
    keys.append(key("numbers", array(10, 27 * MIB // 8, bytes(27 * MIB))))
    tensors = [tensor(f"{index:x}", (1, 1, 1, 8), offset=32 * index) for index in range(ENTRIES)]
    return RawGguf(keys=keys, tensors=tensors, data=bytes(32 * ENTRIES)).to_bytes()


HEAVIEST: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        many_keys_and_tensors,
        wide_texts,
        texts_that_are_no_text,
        many_texts,
        long_texts_in_an_array,
        numbers,
        truth_values,
        all_together,
    )
}
