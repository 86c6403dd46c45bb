"""Models in several files: names there and back, and parts that merge into the whole model or into a sentence."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import CorruptModel
from peerinfer.models import parts
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import GgufHeader, Value, ValueType, parse_header, read_header
from peerinfer.models.parts import PARTS_MAX, PartName, merge_headers, part_name
from peerinfer.models.shard_writer import plan_stage, plan_vocabulary
from tests.models.raw_gguf import RawGguf, key, tensor, text
from tests.tiny import write_tiny_llama


@cache
def tiny() -> bytes:
    with TemporaryDirectory() as folder:
        return write_tiny_llama(Path(folder) / "tiny.gguf", layers=3, width=32, tied=False).read_bytes()


def parse(data: bytes, name: str = "tiny.gguf") -> GgufHeader:
    return parse_header(io.BytesIO(data), len(data), name)


def split_keys(number: int, count: int, n_tensors: int) -> list[bytes]:
    """The keys of one part, of the types that llama.cpp wants."""
    return [
        key("split.no", struct.pack("<IH", ValueType.UINT16, number)),
        key("split.count", struct.pack("<IH", ValueType.UINT16, count)),
        key("split.tensors.count", struct.pack("<Ii", ValueType.INT32, n_tensors)),
    ]


def split(whole: bytes, shares: Sequence[Sequence[str]]) -> list[bytes]:
    """Parts as `llama-gguf-split` writes them: all metadata in the first, and the named tensors in each."""
    header = parse(whole)
    n_keys, keys_end = len(header.metadata), whole.index(text(header.tensors[0].name))
    files: list[bytes] = []
    for number, names in enumerate(shares):
        data, infos = b"", list[bytes]()
        for info in (header.by_name[name] for name in names):
            infos.append(tensor(info.name, info.shape, info.type, len(data)))
            data += whole[info.offset : info.offset + info.n_bytes]
            data += bytes(-len(data) % 32)
        keys = split_keys(number, len(shares), len(header.tensors))
        kept = [whole[24:keys_end]] if number == 0 else []
        n = len(keys) + (n_keys if number == 0 else 0)
        files.append(RawGguf(keys=kept + keys, n_keys=n, tensors=infos, data=data).to_bytes())
    return files


def even(count: int) -> list[list[str]]:
    names = [info.name for info in parse(tiny()).tensors]
    return [names[start::count] for start in range(count)]


def headers_of(files: Sequence[bytes]) -> list[GgufHeader]:
    return [parse(data, PartName("tiny", number, len(files)).file_name) for number, data in enumerate(files, start=1)]


@given(st.text(min_size=1).filter(lambda stem: "\n" not in stem), st.integers(1, PARTS_MAX), st.data())
def test_a_part_is_named_and_known_again(stem: str, count: int, data: st.DataObject) -> None:
    part = PartName(stem, data.draw(st.integers(1, count)), count)
    assert part_name(part.file_name) == part
    names = part.all_file_names()
    assert len(set(names)) == count
    assert names[part.number - 1] == part.file_name
    assert all(part_name(name) == replace(part, number=number) for number, name in enumerate(names, start=1))


@pytest.mark.parametrize(
    "name",
    [
        "model.gguf",
        "model-00000-of-00003.gguf",
        "model-00004-of-00003.gguf",
        "model-00001-of-00000.gguf",
        "model-00001-of-01025.gguf",
        "model-1-of-3.gguf",
        "model-000001-of-000003.gguf",
        "-00001-of-00003.gguf",
        "model-00001-of-00003.gguf.partial",
        "model-00001-of-00003.gguf\n",
        "model-٠٠٠٠١-of-00003.gguf",
        "",
    ],
)
def test_other_names_are_no_parts(name: str) -> None:
    assert part_name(name) is None


@given(st.text())
def test_any_name_is_a_part_or_none(name: str) -> None:
    part = part_name(name)
    assert part is None or part.file_name == name


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers())
def test_parts_merge_into_the_whole_model(count: int, seed: int) -> None:
    """Any share of the tensors, in any order; a part without tensors too."""
    whole = parse(tiny())
    random = Random(seed)
    shares: list[list[str]] = [[] for _ in range(count)]
    for info in random.sample(whole.tensors, len(whole.tensors)):
        random.choice(shares).append(info.name)
    files = split(tiny(), shares)
    merged = merge_headers(headers_of(files))
    assert model_facts(merged) == model_facts(whole)
    assert set(merged.metadata) == set(merged.types) == set(whole.metadata)
    assert [info.name for info in merged.tensors] == [name for share in shares for name in share]
    for info in merged.tensors:
        original = whole.by_name[info.name]
        assert (info.shape, info.type, info.n_bytes) == (original.shape, original.type, original.n_bytes)
        assert info.name in shares[info.part]
        end = info.offset + info.n_bytes
        assert files[info.part][info.offset : end] == tiny()[original.offset : original.offset + original.n_bytes]
        assert merged.by_name[info.name] is info
    for kind, first, last in (("trunk", 0, 2), ("last", 1, 3)):
        ours, theirs = plan_stage(merged, first, last, kind), plan_stage(whole, first, last, kind)
        assert {source.name for source in ours.sources} == {source.name for source in theirs.sources}
        assert ours.metadata == theirs.metadata
    assert plan_vocabulary(merged).metadata == plan_vocabulary(whole).metadata


def test_parts_of_the_gguf_package_merge(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "llama", split_max_tensors=2, small_first_shard=True)
    writer.add_block_count(1)
    for name in "abcde":
        writer.add_tensor(name, np.full(8, ord(name), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    paths = sorted(tmp_path.iterdir())
    part = part_name(paths[0].name)
    assert part is not None
    assert [path.name for path in paths] == list(part.all_file_names())
    merged = merge_headers([read_header(path) for path in paths])
    assert set(merged.metadata) == {"general.architecture", "llama.block_count"}
    for info in merged.tensors:
        data = paths[info.part].read_bytes()[info.offset : info.offset + info.n_bytes]
        assert data == np.full(8, ord(info.name), "<f4").tobytes()
    assert sorted(merged.by_name) == list("abcde")


def test_a_single_file_is_its_own_model() -> None:
    whole = parse(tiny())
    assert merge_headers([whole]) is whole
    (file,) = split(tiny(), even(1))
    assert model_facts(merge_headers([parse(file)])) == model_facts(whole)


def with_value(header: GgufHeader, name: str, value: Value) -> GgufHeader:
    return replace(header, metadata={**header.metadata, name: value})


def without(header: GgufHeader, name: str) -> GgufHeader:
    return replace(header, metadata={kept: value for kept, value in header.metadata.items() if kept != name})


Wrong = Callable[[list[GgufHeader]], list[GgufHeader]]

WRONG: dict[str, tuple[Wrong, str]] = {
    "no parts": (lambda _: [], "The model has no parts"),
    "first missing": (lambda h: h[1:], "part 1 of its 3 parts is missing"),
    "middle missing": (lambda h: [h[0], h[2]], "part 2 of its 3 parts is missing"),
    "last missing": (lambda h: h[:2], "part 3 of its 3 parts is missing"),
    "only the first": (lambda h: h[:1], "part 2 of its 3 parts is missing"),
    "a part twice": (lambda h: [h[0], h[1], h[1], h[2]], "00002-of-00003.gguf is damaged: it is part 2 of 3"),
    "a part for another": (lambda h: [h[0], h[1], h[1]], "part 3 of its 3 parts is missing"),
    "order": (
        lambda h: [h[0], h[2], h[1]],
        "00003-of-00003.gguf is damaged: it is part 3 of 3 and stands in the place",
    ),
    "number": (lambda h: [h[0], h[1], with_value(h[2], "split.no", 7)], "part 3 of its 3 parts is missing"),
    "a whole model among them": (lambda h: [h[0], parse(tiny(), "x"), h[2]], "x is damaged: it has no whole number"),
    "another count": (lambda h: [h[0], h[1], with_value(h[2], "split.count", 4)], "part 3 is one of 4 parts, part 1"),
    "count 0": (lambda h: [with_value(part, "split.count", 0) for part in h], "one of 0 parts"),
    "count over the limit": (lambda h: [with_value(p, "split.count", 1025) for p in h], "one of 1025 parts"),
    "count a text": (lambda h: [h[0], with_value(h[1], "split.count", "3"), h[2]], "no whole number 'split.count'"),
    "count a truth value": (lambda h: [with_value(h[0], "split.count", True)], "no whole number 'split.count'"),
    "number negative": (lambda h: [with_value(h[0], "split.no", -1), *h[1:]], "no whole number 'split.no'"),
    "number missing": (lambda h: [h[0], without(h[1], "split.no"), h[2]], "no whole number 'split.no'"),
    "tensors missing": (lambda h: [h[0], h[1], replace(h[2], tensors=())], "promises 30 tensors in all its parts"),
    "tensors promised": (lambda h: [with_value(p, "split.tensors.count", 31) for p in h], "and they have 30"),
    "tensors negative": (lambda h: [with_value(p, "split.tensors.count", -1) for p in h], "no whole number"),
    "tensors of another model": (
        lambda h: [h[0], with_value(h[1], "split.tensors.count", 31), h[2]],
        "part 2 is of another model than part 1",
    ),
    "a tensor in two parts": (
        lambda h: [h[0], h[1], replace(h[2], tensors=(*h[2].tensors[1:], h[1].tensors[0]))],
        "00003-of-00003.gguf is damaged: its tensor 'blk.0.attn_norm.weight' stands in part 2 too",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parts_are_a_sentence(name: str) -> None:
    wrong, sentence = WRONG[name]
    with pytest.raises(CorruptModel) as raised:
        merge_headers(wrong(headers_of(split(tiny(), even(3)))))
    assert sentence in str(raised.value)
    assert str(raised.value).endswith(".")


def test_as_many_parts_as_the_limit_are_one_model() -> None:
    n = PARTS_MAX
    files = [RawGguf(keys=split_keys(i, n, n), tensors=[tensor(f"t{i}")], data=bytes(32)).to_bytes() for i in range(n)]
    merged = merge_headers(headers_of(files))
    assert [info.part for info in merged.tensors] == list(range(n))


def test_all_parts_together_have_no_more_tensors_than_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TENSORS_MAX", 29)
    with pytest.raises(CorruptModel, match="promises 30 tensors"):
        merge_headers(headers_of(split(tiny(), even(3))))
