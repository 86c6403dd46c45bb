"""Shard files: byte for byte the model's weights, written whole or not at all, and loaded by stock llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from gguf import GGMLQuantizationType as QuantType
from gguf import GGUFValueType, GGUFWriter

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.assembly import Assembly
from peerinfer.models.embedding import EmbeddingTable
from peerinfer.models.gguf import TensorInfo, read_header
from peerinfer.models.layout_writer import layout_for
from peerinfer.models.shards import ShardKey, embedding_key, key_of, stage_key, vocab_key
from tests.cutting import cut, dossier_of
from tests.tiny import write_tiny_llama

DIGEST = "0123456789abcdef" * 4
LAYERS = 5
RANGES = [(first, last) for first in range(LAYERS) for last in range(first + 1, LAYERS + 1)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=False, rope_freqs=True)


def shard(model: Path, first: int, last: int) -> Path:
    return cut(model, stage_key(DIGEST, first, last, LAYERS), model.parent / "shards")


def content(path: Path, tensor: TensorInfo) -> bytes:
    return path.read_bytes()[tensor.offset : tensor.offset + tensor.n_bytes]


@pytest.mark.parametrize(("first", "last"), RANGES)
@pytest.mark.parametrize("tied", [True, False])
def test_tensors_are_copied_byte_for_byte(tmp_path: Path, first: int, last: int, tied: bool) -> None:
    quant = QuantType.Q8_0
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=tied, rope_freqs=True, quant=quant)
    path = shard(model, first, last)
    whole, part = read_header(model), read_header(path)
    if (first, last) == (0, LAYERS):
        assert path == model
        return
    for tensor in part.tensors:
        name = tensor.name
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            name = f"blk.{int(layer) + first}.{rest}"
        elif name == "token_embd.weight" and last == LAYERS and not tied:
            name = "output.weight"
        elif name in ("token_embd.weight", "output_norm.weight") and last < LAYERS:
            continue
        original = whole.by_name[name]
        assert (tensor.shape, tensor.type) == (original.shape, original.type)
        assert content(path, tensor) == content(model, original)
    per_layer = sum(name.startswith("blk.0.") for name in whole.by_name)
    assert len(part.tensors) == (last - first) * per_layer + len(("token_embd", "output_norm", "rope_freqs"))
    assert part.metadata["llama.block_count"] == last - first
    assert part.metadata["tokenizer.ggml.model"] == "none"
    assert part.metadata["llama.vocab_size"] == (320 if last == LAYERS else 1)
    assert not any(key.startswith("tokenizer.") and key != "tokenizer.ggml.model" for key in part.metadata)


def test_a_trunk_has_one_row_of_zeros_and_a_norm_of_ones(model: Path) -> None:
    path = shard(model, 1, 3)
    header = read_header(path)
    table, norm = header.by_name["token_embd.weight"], header.by_name["output_norm.weight"]
    assert table.shape == (64, 1)
    assert content(path, table) == bytes(64 * 4)
    assert content(path, norm) == np.ones(64, "<f4").tobytes()


def test_hyper_parameters_keep_value_and_type(model: Path) -> None:
    whole, part = read_header(model), read_header(shard(model, 2, 4))
    for key, value in whole.metadata.items():
        if key.startswith("llama.") and key not in ("llama.block_count", "llama.vocab_size"):
            assert part.metadata[key] == value
            assert part.types[key] == whole.types[key]


def test_the_vocabulary_file_has_the_whole_header_and_no_weights(model: Path) -> None:
    path = cut(model, vocab_key(DIGEST), model.parent / "shards")
    whole, part = read_header(model), read_header(path)
    assert part.tensors == ()
    assert set(part.metadata) == set(whole.metadata)
    for key, value in whole.metadata.items():
        assert list(np.asarray(part.metadata[key]).ravel()) == list(np.asarray(value).ravel())
    assert path.stat().st_size < 32_768


def test_arrays_with_an_item_per_layer_are_sliced(model: Path) -> None:
    path = model.with_name("uneven.gguf")
    header = read_header(model)
    writer = GGUFWriter(path, "llama")
    for key, value in header.metadata.items():
        if key.startswith("llama.") and key != "llama.attention.head_count_kv":
            writer.add_key_value(key, value, GGUFValueType(header.types[key][0]))
    writer.add_array("llama.attention.head_count_kv", [4, 1, 2, 4, 2])
    for tensor in header.tensors:
        values = np.frombuffer(content(model, tensor), "<f4").reshape(tensor.shape[::-1])
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part = read_header(shard(path, 1, 4))
    assert np.asarray(part.metadata["llama.attention.head_count_kv"]).tolist() == [1, 2, 4]
    assert part.types["llama.attention.head_count_kv"] == read_header(path).types["llama.attention.head_count_kv"]


def native(path: Path, vocab_only: bool = False) -> Any:
    """The model as llama.cpp loads it, or None; its prints are not wanted here."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = vocab_only
    return llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)


@pytest.mark.parametrize(
    "variant", [{}, {"tied": False}, {"rope_freqs": True}, {"experts": 3}, {"quant": QuantType.Q4_0}]
)
@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 4), (1, 3), (2, 5), (4, 5)])
def test_stages_load_in_llama_cpp(tmp_path: Path, variant: dict[str, Any], first: int, last: int) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, **variant)
    loaded = native(shard(model, first, last))
    assert loaded
    assert llama_cpp.llama_model_n_layer(loaded) == last - first
    assert llama_cpp.llama_model_n_embd(loaded) == 64
    vocabulary: Any = llama_cpp.llama_model_get_vocab(loaded)
    assert llama_cpp.llama_vocab_n_tokens(vocabulary) == (320 if last == LAYERS else 1)
    llama_cpp.llama_model_free(loaded)


def test_the_vocabulary_file_tokenises_as_the_model(model: Path) -> None:
    path = cut(model, vocab_key(DIGEST), model.parent / "shards")
    ours = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    theirs = llama_cpp.Llama(str(model), vocab_only=True, verbose=False)
    text = "hello world, größe \x00?".encode()
    assert ours.tokenize(text) == theirs.tokenize(text)
    assert ours.detokenize(ours.tokenize(text)) == text
    assert llama_cpp.llama_model_chat_template(ours.model, None) == llama_cpp.llama_model_chat_template(
        theirs.model, None
    )


@pytest.mark.parametrize(
    ("first", "last", "kind"),
    [
        (0, 5, "trunk"),
        (3, 5, "trunk"),
        (1, 3, "last"),
        (2, 2, "trunk"),
        (3, 1, "trunk"),
        (-1, 2, "trunk"),
        (2, 6, "last"),
    ],
)
def test_a_range_that_is_no_such_stage_is_refused(model: Path, first: int, last: int, kind: str) -> None:
    with pytest.raises(UnsupportedModel):
        cut(model, ShardKey(DIGEST, first, last, kind), model.parent / "shards")


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1] + "\n", DIGEST + "/x"])
def test_a_digest_never_becomes_a_path_unchecked(digest: str) -> None:
    with pytest.raises(UnsupportedModel):
        ShardKey(digest, 0, 1, "trunk")
    with pytest.raises(UnsupportedModel):
        ShardKey(DIGEST, 0, 1, "../trunk")


def test_a_tensor_of_unknown_use_forbids_cutting(model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b"rope_freqs.weight", b"rope_fracs.weight"))
    with pytest.raises(UnsupportedModel, match="rope_fracs"):
        shard(model, 0, 2)


def test_a_last_stage_needs_the_final_norm(model: Path) -> None:
    model.write_bytes(model.read_bytes().replace(b"output_norm.weight", b"blk.4.form1.weight"))
    with pytest.raises(CorruptModel, match="final norm"):
        shard(model, 2, 5)


@pytest.mark.parametrize("kind", ["trunk", "last", "vocab", "whole", "embedding"])
def test_a_file_name_tells_the_key(kind: str) -> None:
    key = ShardKey(DIGEST, 3, 7, kind)
    assert key_of(key.file_name) == key
    for name in (key.file_name + "x", "x" + key.file_name, key.file_name.replace(kind, "other"), "", "a.gguf"):
        assert key_of(name) is None


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_file_holds_the_table_and_what_it_is_multiplied_by(tmp_path: Path, tied: bool) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=2, tied=tied, quant=QuantType.Q8_0)
    path = cut(model, embedding_key(DIGEST), tmp_path / "shards")
    (table,) = read_header(path).tensors
    assert content(path, table) == content(model, read_header(model).by_name["token_embd.weight"])
    ids = np.arange(40, dtype=np.int32)
    with EmbeddingTable(path) as small, EmbeddingTable(model) as big:
        assert (small.rows(ids) == big.rows(ids)).all()
        assert (small.n_vocab, small.n_embd) == (big.n_vocab, big.n_embd)


def test_a_whole_model_that_came_in_pieces_loads_and_tokenises_as_the_file(model: Path) -> None:
    dossier = dossier_of(model)
    key = ShardKey(dossier.digest, 0, LAYERS, "whole")
    made = Assembly(model.parent / "whole.gguf", layout_for(read_header(model), key), dossier.manifest)
    made.open()
    for source in dossier.own_sources():
        made.fill(source, lambda: None)
    path = made.finish()
    whole, again = read_header(model), read_header(path)
    assert [tensor.name for tensor in again.tensors] == [tensor.name for tensor in whole.tensors]
    for one, other in zip(whole.tensors, again.tensors, strict=True):
        assert content(model, one) == content(path, other)
    assert dossier_of(path).manifest.chunk_digests == dossier.manifest.chunk_digests
    loaded = native(path)
    assert llama_cpp.llama_model_n_layer(loaded) == LAYERS
    llama_cpp.llama_model_free(loaded)
