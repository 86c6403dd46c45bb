"""Malformed starts, counts, keys and values."""

from __future__ import annotations

import struct
from random import Random

from tests.models.hostile import MIB, U64_MAX, above, array, malformed, not_utf8, right, with_key, with_value
from tests.models.raw_gguf import ARRAY, BOOL, STRING, U32, RawGguf, key, tensor, text, u32

ITEMS_MAX = 1 << 24
TEXT = struct.pack("<I", STRING)


@malformed("not a GGUF file")
def bad_magic(random: Random) -> bytes:
    raw = right(random)
    raw.magic = random.choice([b"GGML", b"ggjt", b"FUGG", b"GGUG", b"gguf", bytes(4), random.randbytes(3) + b"X"])
    return raw.to_bytes()


@malformed("not a GGUF file")
def another_kind_of_file(random: Random) -> bytes:
    start = random.choice([b"<!DOCTYPE html>", b"PK\3\4", b"version https://git-lfs", b"\x7fELF", bytes(64)])
    return start + random.randbytes(random.randrange(200))


@malformed("not a GGUF file")
def something_before_the_magic(random: Random) -> bytes:
    return random.choice([b"\xef\xbb\xbf", b"\0", b"\r\n", b"GGU"]) + right(random).to_bytes()


@malformed("is unknown to this peerinfer")
def unknown_version(random: Random) -> bytes:
    number = random.choice([0, 4, 5, 255, 256, (1 << 32) - 1, random.randrange(4, 1 << 16)])
    return RawGguf(version=number).to_bytes()


@malformed("of version 1, which is too old")
def old_version(random: Random) -> bytes:
    raw = right(random)
    raw.version = 1
    return raw.to_bytes()


@malformed("big-endian")
def big_endian(random: Random) -> bytes:
    data = bytearray(right(random).to_bytes())
    data[4:24] = struct.pack(">IQQ", random.choice([1, 2, 3]), random.randrange(100), random.randrange(100))
    return bytes(data)


@malformed("over the limit of 65536")
def big_endian_counts_only(random: Random) -> bytes:
    data = bytearray(right(random).to_bytes())
    at = random.choice([8, 16])
    data[at : at + 8] = data[at : at + 8][::-1]
    return bytes(data)


@malformed("tensors are over the limit")
def too_many_tensors(random: Random) -> bytes:
    raw = right(random)
    raw.n_tensors = above(random, 65_536)
    return raw.to_bytes()


@malformed("ends before its")
def more_tensors_than_bytes(random: Random) -> bytes:
    raw = right(random)
    raw.n_tensors = random.randrange(len(raw.to_bytes()) // 33 + 1, 65_537)
    return raw.to_bytes()


@malformed("keys are over the limit")
def too_many_keys(random: Random) -> bytes:
    raw = right(random)
    raw.n_keys = above(random, 65_536)
    return raw.to_bytes()


@malformed("ends before its")
def more_keys_than_bytes(random: Random) -> bytes:
    raw = right(random)
    raw.n_keys = random.randrange(len(raw.to_bytes()) // 14 + 1, 65_537)
    return raw.to_bytes()


@malformed("")
def tensors_counted_as_keys(random: Random) -> bytes:
    raw = right(random)
    raw.n_keys = len(raw.keys) + random.randrange(1, len(raw.tensors) + 1)
    return raw.to_bytes()


@malformed("stands in it twice")
def duplicate_key(random: Random) -> bytes:
    return with_key(random, key("general.architecture", TEXT + text(random.choice(["llama", "other"]))))


@malformed("a key is empty")
def empty_key(random: Random) -> bytes:
    return with_key(random, key("", u32(1)))


@malformed("has a zero in it")
def key_with_a_zero(random: Random) -> bytes:
    name = bytearray(b"a" * random.randrange(1, 20))
    name[random.randrange(len(name))] = 0
    return with_key(random, key(bytes(name), u32(1)))


@malformed("a key is not UTF-8")
def key_not_utf8(random: Random) -> bytes:
    return with_key(random, key(not_utf8(random), u32(1)))


@malformed("over the limit of 65535")
def key_too_long(random: Random) -> bytes:
    return with_key(random, key("k" * random.randrange(65_536, 70_000), u32(1)))


@malformed("over the limit of 65535")
def length_of_key_huge(random: Random) -> bytes:
    return with_key(random, struct.pack("<Q", above(random, 65_535)) + u32(1))


@malformed("in the middle of its header")
def key_beyond_the_file(random: Random) -> bytes:
    return RawGguf(keys=[struct.pack("<Q", random.randrange(200, 65_536))]).to_bytes()


@malformed("over the limit of 1048576")
def text_too_long(random: Random) -> bytes:
    return with_value(random, TEXT + text(bytes(MIB + random.randrange(1, 1000))))


@malformed("over the limit of 1048576")
def length_of_text_huge(random: Random) -> bytes:
    return with_value(random, TEXT + struct.pack("<Q", above(random, MIB)))


@malformed("in the middle of its header")
def text_beyond_the_file(random: Random) -> bytes:
    return with_value(random, TEXT + struct.pack("<Q", random.randrange(MIB // 2, MIB + 1)))


@malformed("its texts together", large=True)
def texts_too_long_together(random: Random) -> bytes:
    raw = right(random)
    raw.keys += [key(f"text.{index}", TEXT + text(bytes(MIB - random.randrange(100)))) for index in range(17)]
    return raw.to_bytes()


@malformed("is no type of a value")
def unknown_type_of_value(random: Random) -> bytes:
    number = random.choice([13, 14, 255, 1 << 31, (1 << 32) - 1, random.randrange(13, 1 << 32)])
    return with_value(random, struct.pack("<I", number) + bytes(8))


@malformed("is no type of a value")
def unknown_type_of_items(random: Random) -> bytes:
    return with_value(random, array(random.randrange(13, 1 << 32), random.randrange(4), bytes(32)))


@malformed("array of arrays")
def nested_arrays(random: Random) -> bytes:
    inner = array(U32, 1, bytes(4))
    for _ in range(random.randrange(1, 1000)):
        inner = array(ARRAY, 1, inner)
    return with_value(random, inner)


@malformed("items of an array are over the limit")
def array_too_long(random: Random) -> bytes:
    return with_value(random, array(random.choice([0, U32, BOOL, STRING, 12]), above(random, ITEMS_MAX)))


@malformed("ends before its")
def array_beyond_the_file(random: Random) -> bytes:
    return with_value(random, array(random.choice([0, U32, BOOL, STRING, 12]), random.randrange(MIB, ITEMS_MAX + 1)))


@malformed("9223372036854775808 items of an array are over the limit")
def array_of_2_to_the_63_in_49_bytes(random: Random) -> bytes:
    wrong = key(random.choice("abc"), array(random.choice([0, U32, BOOL, STRING, 12]), 1 << 63))
    data = RawGguf(keys=[wrong], tensors=[], data=b"").to_bytes()[:49]
    assert data.endswith(struct.pack("<Q", 1 << 63))
    return data


@malformed("over the limit of 1048576")
def text_in_an_array_too_long(random: Random) -> bytes:
    return with_value(random, array(STRING, 3, text("a") + struct.pack("<Q", above(random, MIB)) + text("b")))


@malformed("in the middle of its header")
def text_in_an_array_beyond_the_file(random: Random) -> bytes:
    return with_value(random, array(STRING, 2, text("a") + struct.pack("<Q", random.randrange(MIB // 2, MIB + 1))))


@malformed("its text arrays have more than", large=True)
def too_many_texts_in_arrays(random: Random) -> bytes:
    raw = right(random)
    few = random.randrange(1, 1000)
    raw.keys.append(key("few", array(STRING, few, bytes(8 * few))))
    raw.keys.append(key("many", array(STRING, 2 * MIB + 1 - few, bytes(8 * (2 * MIB + 1 - few)))))
    return raw.to_bytes()


@malformed("neither 0 nor 1")
def truth_value_neither_0_nor_1(random: Random) -> bytes:
    return with_value(random, struct.pack("<IB", BOOL, random.randrange(2, 256)))


@malformed("neither 0 nor 1")
def truth_values_neither_0_nor_1(random: Random) -> bytes:
    values = bytearray(random.randrange(1, 50))
    values[random.randrange(len(values))] = random.randrange(2, 256)
    return with_value(random, array(BOOL, len(values), bytes(values)))


@malformed("alignment 0 is no power of two")
def alignment_zero(random: Random) -> bytes:
    return with_key(random, key("general.alignment", u32(0)))


@malformed("is no power of two")
def alignment_no_power_of_two(random: Random) -> bytes:
    number = random.choice([1 << random.randrange(3, 17), 32]) + random.choice([1, 2, 3, 5, 7])
    return with_key(random, key("general.alignment", u32(number)))


@malformed("is no power of two from 8")
def alignment_below_8(random: Random) -> bytes:
    return with_key(random, key("general.alignment", u32(random.choice([1, 2, 4]))))


@malformed("is no power of two from 8 to 65536")
def alignment_huge(random: Random) -> bytes:
    return with_key(random, key("general.alignment", u32(1 << random.randrange(17, 32))))


@malformed("its alignment is not a 32-bit number")
def alignment_of_another_type(random: Random) -> bytes:
    wrong = random.choice(
        [
            TEXT + text("32"),
            struct.pack("<IQ", 10, 32),
            struct.pack("<Ii", 5, 32),
            struct.pack("<If", 6, 32.0),
            struct.pack("<IB", BOOL, 1),
            array(U32, 1, struct.pack("<I", 32)),
            array(STRING, 0),
        ]
    )
    return with_key(random, key("general.alignment", wrong))


@malformed("its header is over the limit", large=True)
def header_too_long(random: Random) -> bytes:
    numbers = array(10, 8 * MIB - random.randrange(1, 4), bytes(64 * MIB + 64))
    return RawGguf(keys=[key("k", numbers), key("l", u32(1))], tensors=[tensor("a")], data=b"").to_bytes()


@malformed("ends")
def empty_or_nearly(random: Random) -> bytes:
    start = b"GGUF" + struct.pack("<IQQ", 3, random.randrange(1, U64_MAX), random.randrange(1, U64_MAX))
    return start[: random.randrange(16)]
