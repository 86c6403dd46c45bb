"""The GGUF reader: right files are read exactly, wrong ones raise its own errors and nothing else."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from peerinfer.errors import CorruptModel, ModelError, UnsupportedModel
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import GgufHeader, ValueType, parse_header, read_header
from tests.models.raw_gguf import ARRAY, BOOL, STRING, U32, RawGguf, key, tensor, text, u32
from tests.tiny import write_tiny_llama

HUGE = 1 << 63


def parse(data: bytes) -> GgufHeader:
    return parse_header(io.BytesIO(data), len(data))


def array(items: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IIQ", ARRAY, items, count) + content


BROKEN: dict[str, tuple[bytes, type[ModelError]]] = {
    "empty": (b"", CorruptModel),
    "magic": (RawGguf(magic=b"GGML").to_bytes(), CorruptModel),
    "only magic": (b"GGUF", CorruptModel),
    "version 0": (RawGguf(version=0).to_bytes(), UnsupportedModel),
    "version 1": (RawGguf(version=1).to_bytes(), UnsupportedModel),
    "version 4": (RawGguf(version=4).to_bytes(), UnsupportedModel),
    "big-endian": (RawGguf(version=3 << 24).to_bytes(), UnsupportedModel),
    "too many tensors": (RawGguf(n_tensors=65_537).to_bytes(), CorruptModel),
    "2^63 tensors": (RawGguf(n_tensors=HUGE).to_bytes(), CorruptModel),
    "2^63 keys": (RawGguf(n_keys=HUGE).to_bytes(), CorruptModel),
    "more keys than bytes": (RawGguf(n_keys=60_000).to_bytes(), CorruptModel),
    "one key too many": (RawGguf(n_keys=2).to_bytes(), ModelError),
    "duplicate key": (RawGguf(keys=[key("k", u32(1)), key("k", u32(2))]).to_bytes(), CorruptModel),
    "empty key": (RawGguf(keys=[key("", u32(1))]).to_bytes(), CorruptModel),
    "key with a zero": (RawGguf(keys=[key("a\0b", u32(1))]).to_bytes(), CorruptModel),
    "key not UTF-8": (RawGguf(keys=[key(b"\xff\xfe", u32(1))]).to_bytes(), CorruptModel),
    "key of 2^63 bytes": (RawGguf(keys=[struct.pack("<Q", HUGE)]).to_bytes(), CorruptModel),
    "text over 1 MiB": (
        RawGguf(keys=[key("k", struct.pack("<I", STRING) + text(bytes((1 << 20) + 1)))]).to_bytes(),
        CorruptModel,
    ),
    "value type": (RawGguf(keys=[key("k", struct.pack("<II", 13, 0))]).to_bytes(), CorruptModel),
    "array item type": (RawGguf(keys=[key("k", array(99, 1))]).to_bytes(), CorruptModel),
    "truth value 2": (RawGguf(keys=[key("k", struct.pack("<IB", BOOL, 2))]).to_bytes(), CorruptModel),
    "truth values 2": (RawGguf(keys=[key("k", array(BOOL, 2, b"\1\2"))]).to_bytes(), CorruptModel),
    "array of arrays": (RawGguf(keys=[key("k", array(ARRAY, 1, array(U32, 0)))]).to_bytes(), UnsupportedModel),
    "array over 2^24": (RawGguf(keys=[key("k", array(U32, (1 << 24) + 1))]).to_bytes(), CorruptModel),
    "array longer than the file": (RawGguf(keys=[key("k", array(U32, 1 << 23))]).to_bytes(), CorruptModel),
    "texts longer than the file": (RawGguf(keys=[key("k", array(STRING, 1 << 20))]).to_bytes(), CorruptModel),
    "text in an array too long": (
        RawGguf(keys=[key("k", array(STRING, 1, struct.pack("<Q", HUGE)))]).to_bytes(),
        CorruptModel,
    ),
    "49 bytes with a 2^63 array": (
        RawGguf(keys=[key("k", array(U32, HUGE))], tensors=[], data=b"").to_bytes()[:49],
        CorruptModel,
    ),
    "alignment 0": (RawGguf(keys=[key("general.alignment", u32(0))]).to_bytes(), CorruptModel),
    "alignment 24": (RawGguf(keys=[key("general.alignment", u32(24))]).to_bytes(), CorruptModel),
    "alignment 2^31": (RawGguf(keys=[key("general.alignment", u32(1 << 31))]).to_bytes(), CorruptModel),
    "alignment a text": (
        RawGguf(keys=[key("general.alignment", struct.pack("<I", STRING) + text("32"))]).to_bytes(),
        CorruptModel,
    ),
    "duplicate tensor": (RawGguf(tensors=[tensor("a"), tensor("a", offset=32)]).to_bytes(), CorruptModel),
    "long tensor name": (RawGguf(tensors=[tensor("a" * 64)]).to_bytes(), CorruptModel),
    "no dimension": (RawGguf(tensors=[tensor("a", ())]).to_bytes(), CorruptModel),
    "five dimensions": (RawGguf(tensors=[tensor("a", (1, 1, 1, 1, 8))]).to_bytes(), CorruptModel),
    "2^31 dimensions": (RawGguf(tensors=[text("a") + struct.pack("<I", 1 << 31) + bytes(64)]).to_bytes(), CorruptModel),
    "size 0": (RawGguf(tensors=[tensor("a", (8, 0))]).to_bytes(), CorruptModel),
    "overflowing product": (RawGguf(tensors=[tensor("a", (1 << 32, 1 << 32))]).to_bytes(), CorruptModel),
    "overflow to zero": (RawGguf(tensors=[tensor("a", (HUGE, 2))]).to_bytes(), CorruptModel),
    "row not of whole blocks": (RawGguf(tensors=[tensor("a", (33,), kind=8)]).to_bytes(), CorruptModel),
    "unknown tensor type": (RawGguf(tensors=[tensor("a", kind=4)]).to_bytes(), UnsupportedModel),
    "offset not aligned": (RawGguf(tensors=[tensor("a", offset=8)]).to_bytes(), CorruptModel),
    "offset 2^63": (RawGguf(tensors=[tensor("a", offset=HUGE)]).to_bytes(), CorruptModel),
    "overlap": (RawGguf(tensors=[tensor("a", (16,)), tensor("b", offset=32)]).to_bytes(), CorruptModel),
    "same place": (RawGguf(tensors=[tensor("a"), tensor("b")]).to_bytes(), CorruptModel),
    "weights cut short": (RawGguf().to_bytes()[:-1], CorruptModel),
    "no weights": (RawGguf(data=b"").to_bytes(), CorruptModel),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_refused_with_a_sentence(name: str) -> None:
    data, kind = BROKEN[name]
    with pytest.raises(kind) as raised:
        parse(data)
    assert type(raised.value) in (CorruptModel, UnsupportedModel)
    assert str(raised.value).startswith("the file ")
    assert str(raised.value).endswith(".")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([RawGguf().to_bytes(), *(data for data, _ in BROKEN.values() if len(data) < 4096)]), st.data())
def test_mutated_header_raises_only_own_errors(original: bytes, data: DataObject) -> None:
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated)))
        patch = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, bytes(8)])))
        mutated[position : position + data.draw(st.sampled_from([0, len(patch)]))] = patch
    cut = data.draw(st.sampled_from([len(mutated), data.draw(st.integers(0, len(mutated)))]))
    try:
        header = parse(bytes(mutated[:cut]))
        model_facts(header)
    except (CorruptModel, UnsupportedModel):
        return
    assert all(tensor.offset + tensor.n_bytes <= cut for tensor in header.tensors)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", layers=2, width=32).read_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_model_raises_only_own_errors(tiny: bytes, data: DataObject) -> None:
    end = parse(tiny).data_offset
    mutated = bytearray(tiny)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, end - 8))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        mutated[position : position + len(patch)] = patch
    try:
        model_facts(parse(bytes(mutated)))
    except (CorruptModel, UnsupportedModel):
        return


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=100, deadline=None)
def test_truncated_model_is_corrupt(tiny: bytes, cut: float) -> None:
    with pytest.raises(CorruptModel):
        parse(tiny[: int(cut * len(tiny))])


def test_every_number_type_is_read_as_written(tmp_path: Path) -> None:
    written: dict[str, tuple[GGUFValueType, object]] = {
        "u8": (GGUFValueType.UINT8, 255),
        "i8": (GGUFValueType.INT8, -128),
        "u16": (GGUFValueType.UINT16, 65_535),
        "i16": (GGUFValueType.INT16, -1),
        "u32": (GGUFValueType.UINT32, 1 << 31),
        "i32": (GGUFValueType.INT32, -5),
        "u64": (GGUFValueType.UINT64, HUGE),
        "i64": (GGUFValueType.INT64, -HUGE),
        "f32": (GGUFValueType.FLOAT32, 0.5),
        "f64": (GGUFValueType.FLOAT64, 0.1),
        "yes": (GGUFValueType.BOOL, True),
        "no": (GGUFValueType.BOOL, False),
        "text": (GGUFValueType.STRING, "größe"),
        "empty": (GGUFValueType.STRING, ""),
    }
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    for name, (kind, value) in written.items():
        writer.add_key_value(name, value, kind)
    writer.add_array("ints", [1, -2, 3])
    writer.add_array("bools", [True, False])
    writer.add_array("texts", ["a", "", "ü" * 300])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = read_header(tmp_path / "a.gguf")
    for name, (_, value) in written.items():
        assert header.metadata[name] == value
        assert type(header.metadata[name]) is type(value)
    assert np.asarray(header.metadata["ints"]).tolist() == [1, -2, 3]
    assert np.asarray(header.metadata["bools"]).tolist() == [True, False]
    texts = header.metadata["texts"]
    assert list(texts) == ["a", "", "ü" * 300]  # pyright: ignore[reportArgumentType]
    assert header.types["ints"] == (ValueType.ARRAY, ValueType.INT32)


def test_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", tied=False)
    header = read_header(path)
    oracle = GGUFReader(path)
    assert [
        (t.name, tuple(int(n) for n in t.shape), t.tensor_type, t.data_offset, t.n_bytes) for t in oracle.tensors
    ] == [(t.name, t.shape, t.type, t.offset, t.n_bytes) for t in header.tensors]
    assert header.data_offset == oracle.data_offset
    fields = {name: field.contents() for name, field in oracle.fields.items() if not name.startswith("GGUF.")}
    ours = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in header.metadata.items()}
    assert {name: list(value) if isinstance(value, list) else value for name, value in fields.items()} == {
        name: value if isinstance(value, str | int | float | bool) else list(value) for name, value in ours.items()
    }


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.gguf cannot be read"):
        read_header(tmp_path / "gone.gguf")
    with pytest.raises(ModelError):
        read_header(tmp_path)


def test_a_header_of_many_reads_is_read_as_written() -> None:
    """Texts and numbers that lie across the ends of what is read from the file at once, and a value longer than it."""
    random = Random(0)
    keys: list[bytes] = []
    written: list[object] = []
    for index in range(40):
        texts = ["é" * random.randrange(2000) for _ in range(random.randrange(60))]
        numbers = [random.getrandbits(64) for _ in range(random.choice([0, 10, 100, 70_000]))]
        one = "x" * random.choice([0, 5, 300_000])
        keys.append(key(f"{index}.texts", array(STRING, len(texts), b"".join(map(text, texts)))))
        keys.append(key(f"{index}.numbers", array(10, len(numbers), struct.pack(f"<{len(numbers)}Q", *numbers))))
        keys.append(key(f"{index}.text", struct.pack("<I", STRING) + text(one)))
        written += [texts, numbers, one]
    header = parse(RawGguf(keys=keys).to_bytes())
    read = [value.tolist() if isinstance(value, np.ndarray) else value for value in header.metadata.values()]
    assert [value if isinstance(value, str | list) else list(value) for value in read] == written  # pyright: ignore[reportArgumentType]
    assert [tensor.name for tensor in header.tensors] == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_a_sentence_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelError, match=r"pipe\.gguf is no file"):
        read_header(tmp_path / "pipe.gguf")
