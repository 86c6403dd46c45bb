"""Right files with random content, and the registry of the ways to break them.

A way is a function from a seeded `Random` to the bytes of a file that must be refused, whatever the seed. The ways are
in `hostile_values.py` (the start of the file, keys and values) and `hostile_tensors.py` (tensors and weights).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from random import Random
from typing import NamedTuple

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from tests.models.raw_gguf import ARRAY, STRING, RawGguf, key, tensor, text

Make = Callable[[Random], bytes]

MIB = 1 << 20
U64_MAX = (1 << 64) - 1
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Code of `struct` for each type of value."""
_KINDS = [0, 1, 2, 8, 12, 14, 24, 30, 39]
"""Types of tensors with blocks of 1, 32 and 256 numbers."""


class Malformed(NamedTuple):
    """One way to break a file."""

    make: Make
    sentence: str
    """Stands in the sentence with which the reader refuses each of its files."""
    large: bool
    """Whether a file has tens of megabytes, so that a few seeds must do where time counts."""


MALFORMED: dict[str, Malformed] = {}
"""All ways, by the name of their function; filled when the two modules are imported."""


def malformed(sentence: str, *, large: bool = False) -> Callable[[Make], Make]:
    """Registers a way to break a file, which the reader refuses with `sentence`."""

    def register(make: Make) -> Make:
        assert make.__name__ not in MALFORMED
        MALFORMED[make.__name__] = Malformed(make, sentence, large)
        return make

    return register


def right(random: Random) -> RawGguf:
    """A file in which all is right, and that ends with its last tensor."""
    keys = [key("general.architecture", struct.pack("<I", STRING) + text("llama"))]
    keys += [key(f"key.{index}", value(random)) for index in range(random.randrange(1, 8))]
    random.shuffle(keys)
    tensors: list[bytes] = []
    end = 0
    for index in range(random.randrange(2, 8)):
        kind = random.choice(_KINDS)
        block_items, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        shape = (block_items * random.randrange(1, 4), *(random.randrange(1, 4) for _ in range(random.randrange(4))))
        start = -(-end // 32) * 32
        tensors.append(tensor(f"blk.{index}.weight", shape, kind, start))
        end = start + prod(shape) // block_items * block_bytes
    return RawGguf(keys=keys, tensors=tensors, data=random.randbytes(end))


def value(random: Random) -> bytes:
    """A value of any type, with its type before it."""
    what = random.randrange(4)
    if what == 0:
        return struct.pack("<I", STRING) + text("ä" * random.randrange(20))
    if what == 1:
        texts = [text("ö" * random.randrange(4)) for _ in range(random.randrange(6))]
        return array(STRING, len(texts), b"".join(texts))
    kind = random.choice(list(_NUMBERS))
    code = _NUMBERS[kind]
    if what == 2:
        return struct.pack(f"<I{code}", kind, random.randrange(2))
    count = random.randrange(6)
    return array(kind, count, struct.pack(f"<{count}{code}", *(random.randrange(2) for _ in range(count))))


def array(items: int, count: int, content: bytes = b"") -> bytes:
    """A value of type array, of items of type `items`."""
    return struct.pack("<IIQ", ARRAY, items, count) + content


def with_key(random: Random, wrong: bytes) -> bytes:
    """A right file but for one more key, anywhere among its keys."""
    raw = right(random)
    raw.keys.insert(random.randrange(len(raw.keys) + 1), wrong)
    return raw.to_bytes()


def with_value(random: Random, wrong: bytes) -> bytes:
    """A right file but for the value of one more key."""
    return with_key(random, key("wrong", wrong))


def with_tensor(random: Random, wrong: bytes) -> bytes:
    """A right file but for one tensor in the place of another."""
    raw = right(random)
    raw.tensors[random.randrange(len(raw.tensors))] = wrong
    return raw.to_bytes()


def above(random: Random, limit: int) -> int:
    """A 64-bit number over `limit`: the next one, a power of two or near it, the greatest, or any."""
    power = 1 << random.randrange(64)
    choices = (limit + 1, power, power - 1, power + 1, U64_MAX, 1 << 63, random.randrange(limit, U64_MAX))
    return random.choice([number for number in choices if number > limit])


def not_utf8(random: Random) -> bytes:
    """A few bytes that are no UTF-8 text."""
    wrong = random.choice([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80"])
    return b"a" * random.randrange(5) + wrong + b"z" * random.randrange(5)
