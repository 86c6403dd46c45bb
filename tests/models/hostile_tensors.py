"""Malformed tensors and weights."""

from __future__ import annotations

import struct
from random import Random

from tests.models.hostile import U64_MAX, above, malformed, not_utf8, right, with_tensor
from tests.models.raw_gguf import RawGguf, tensor, text

NAME = "wrong.weight"


@malformed("stands in it twice")
def duplicate_tensor(random: Random) -> bytes:
    raw = right(random)
    raw.tensors.insert(random.randrange(len(raw.tensors) + 1), random.choice(raw.tensors))
    return raw.to_bytes()


@malformed("the name of a tensor is empty")
def tensor_without_name(random: Random) -> bytes:
    return with_tensor(random, tensor(""))


@malformed("has a zero in it")
def name_of_tensor_with_a_zero(random: Random) -> bytes:
    name = bytearray(b"a" * random.randrange(1, 20))
    name[random.randrange(len(name))] = 0
    return with_tensor(random, tensor(bytes(name)))


@malformed("the name of a tensor is not UTF-8")
def name_of_tensor_not_utf8(random: Random) -> bytes:
    return with_tensor(random, tensor(not_utf8(random)))


@malformed("over the limit of 63")
def name_of_tensor_too_long(random: Random) -> bytes:
    return with_tensor(random, tensor("é" * random.randrange(32, 200)))


@malformed("over the limit of 63")
def length_of_name_of_tensor_huge(random: Random) -> bytes:
    return with_tensor(random, struct.pack("<Q", above(random, 63)))


@malformed("has 0 dimensions")
def no_dimension(random: Random) -> bytes:
    return with_tensor(random, tensor(NAME, ()))


@malformed("has 5 dimensions")
def five_dimensions(random: Random) -> bytes:
    return with_tensor(random, tensor(NAME, tuple(random.choice([1, 32]) for _ in range(5))))


@malformed("dimensions")
def dimensions_without_end(random: Random) -> bytes:
    number = random.choice([6, 255, 1 << 16, 1 << 31, (1 << 32) - 1, random.randrange(6, 1 << 32)])
    return with_tensor(random, text(NAME) + struct.pack("<I", number) + bytes(random.randrange(100)))


@malformed("has a shape that its type")
def dimension_zero(random: Random) -> bytes:
    shape = [random.choice([32, 1 << 40, U64_MAX - 31]) for _ in range(random.randrange(1, 5))]
    shape[random.randrange(len(shape))] = 0
    return with_tensor(random, tensor(NAME, tuple(shape)))


@malformed("overflows")
def product_overflows(random: Random) -> bytes:
    return with_tensor(random, tensor(NAME, tuple(random.randrange(1 << 32, 1 << 64) for _ in range(2))))


@malformed("overflows")
def product_overflows_to_something_small(random: Random) -> bytes:
    power = random.randrange(1, 64)
    return with_tensor(random, tensor(NAME, (1 << power, 1 << (64 - power), random.randrange(1, 8))))


@malformed("overflows")
def product_with_the_size_of_items_overflows(random: Random) -> bytes:
    kind = random.choice([0, 26, 27, 28])
    return with_tensor(random, tensor(NAME, (1 << 31, (1 << 30) + random.randrange(1, 1 << 30)), kind))


@malformed("has a shape that its type")
def dimension_negative_for_native_code(random: Random) -> bytes:
    return with_tensor(random, tensor(NAME, (U64_MAX - 2 * random.randrange(16), random.randrange(1, 4)), kind=8))


@malformed("has a shape that its type")
def row_not_of_whole_blocks(random: Random) -> bytes:
    kind, block = random.choice([(2, 32), (8, 32), (12, 256), (14, 256), (39, 32)])
    row = block * random.randrange(4) + random.randrange(1, block)
    return with_tensor(random, tensor(NAME, (row, block), kind))


@malformed("is unknown to this peerinfer")
def unknown_type_of_tensor(random: Random) -> bytes:
    number = random.choice([100, 255, 1 << 31, (1 << 32) - 1, random.randrange(100, 1 << 32)])
    return with_tensor(random, tensor(NAME, kind=number))


@malformed("is unknown to this peerinfer")
def removed_type_of_tensor(random: Random) -> bytes:
    return with_tensor(random, tensor(NAME, (256,), random.choice([4, 5, 31, 32, 33, 36, 37, 38])))


@malformed("does not start at a multiple of 32")
def offset_not_aligned(random: Random) -> bytes:
    offset = 32 * random.randrange(8) + random.randrange(1, 32)
    return with_tensor(random, tensor(NAME, offset=offset))


@malformed("before the end of its tensor")
def offset_beyond_the_file(random: Random) -> bytes:
    raw = right(random)
    raw.tensors.append(tensor(NAME, offset=(len(raw.data) // 32 + random.randrange(1, 1 << 30)) * 32))
    return raw.to_bytes()


@malformed("before the end of its tensor")
def offset_overflows(random: Random) -> bytes:
    return with_tensor(random, tensor(NAME, offset=random.choice([1 << 63, (1 << 64) - 32, (1 << 63) - 32])))


@malformed("before the end of its tensor")
def tensor_longer_than_the_file(random: Random) -> bytes:
    raw = right(random)
    raw.tensors = [tensor(NAME, (1 << random.randrange(20, 60),), 24)]
    return raw.to_bytes()


@malformed("overlaps another one")
def overlapping_tensors(random: Random) -> bytes:
    items = random.randrange(9, 100)
    tensors = [tensor("a", (items,)), tensor("b", (8,), offset=random.randrange(1, -(-items // 8)) * 32)]
    random.shuffle(tensors)
    return RawGguf(tensors=tensors, data=bytes(1000)).to_bytes()


@malformed("overlaps another one")
def tensors_at_the_same_place(random: Random) -> bytes:
    offset = random.randrange(8) * 32
    tensors = [tensor(name, offset=offset) for name in "abc"[: random.randrange(2, 4)]]
    return RawGguf(tensors=tensors, data=bytes(1000)).to_bytes()


@malformed("ends")
def cut_anywhere(random: Random) -> bytes:
    data = right(random).to_bytes()
    return data[: random.randrange(len(data))]


@malformed("ends")
def header_cut(random: Random) -> bytes:
    raw = right(random)
    data = raw.to_bytes()
    return data[: random.randrange(len(data) - len(raw.data) - 31)]


@malformed("before the end of its tensor")
def weights_cut(random: Random) -> bytes:
    raw = right(random)
    return raw.to_bytes()[: -random.randrange(1, len(raw.data) + 1)]


@malformed("is empty or has a zero")
def one_tensor_too_many(random: Random) -> bytes:
    raw = right(random)
    raw.n_tensors = len(raw.tensors) + 1
    raw.data = bytes(len(raw.data) + 64)
    return raw.to_bytes()
