"""Facts of a model and the rules of its architecture."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.architectures import architecture
from peerinfer.models.facts import check_cut, layer_of, model_facts
from peerinfer.models.gguf import GgufHeader, read_header
from tests.tiny import write_tiny_llama


@pytest.fixture
def header(tmp_path: Path) -> GgufHeader:
    return read_header(write_tiny_llama(tmp_path / "tiny.gguf", layers=3, tied=False))


def with_value(header: GgufHeader, key: str, value: object) -> GgufHeader:
    return replace(header, metadata={**header.metadata, key: value})  # pyright: ignore[reportArgumentType]


def test_facts_of_a_tiny_model(header: GgufHeader) -> None:
    facts = model_facts(header)
    assert (facts.architecture, facts.n_layers, facts.n_embd, facts.n_vocab) == ("llama", 3, 64, 320)
    assert facts.legal_cuts == (1, 2)
    assert not facts.tied_embeddings
    assert facts.embedding_bytes == 320 * 64 * 4
    assert facts.head_bytes == 320 * 64 * 4 + 64 * 4
    assert facts.kv_bytes_per_token_per_layer == 2 * 16 * 2 * 2
    assert facts.context_length == 512
    weights = sum(tensor.n_bytes for tensor in header.tensors)
    assert sum(facts.layer_bytes) + facts.embedding_bytes + facts.head_bytes == weights


def test_tied_embeddings_count_as_head_too(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", quant=GGMLQuantizationType.Q8_0)
    facts = model_facts(read_header(path))
    assert facts.tied_embeddings
    assert facts.head_bytes == facts.embedding_bytes + 64 * 4
    assert facts.quantisation == "Q8_0"


def test_kv_bytes_follow_the_layer_with_most_heads(header: GgufHeader) -> None:
    uneven = with_value(header, "llama.attention.head_count_kv", np.array([1, 4, 2], "<u4"))
    assert model_facts(uneven).kv_bytes_per_token_per_layer == 4 * 16 * 2 * 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.block_count", 4),
        ("llama.block_count", 2),
        ("llama.block_count", 0),
        ("llama.block_count", 1 << 40),
        ("llama.block_count", "3"),
        ("llama.block_count", True),
        ("llama.embedding_length", 65),
        ("llama.embedding_length", 0),
        ("llama.context_length", -1),
        ("llama.context_length", 1 << 32),
        ("llama.context_length", 512.0),
        ("llama.context_length", float("nan")),
        ("llama.attention.key_length", np.array([16, 16, 16], "<u4")),
        ("llama.attention.key_length", (1 << 32) - 1),
        ("llama.attention.head_count_kv", np.array([1, 1 << 63, 2], "<u8")),
        ("llama.attention.head_count_kv", np.array([True, True, True])),
        ("llama.attention.head_count_kv", np.array([1, 2], "<u4")),
        ("llama.attention.head_count_kv", np.array([1, -2, 3], "<i4")),
        ("llama.attention.head_count_kv", np.array([1, 2, 3], "<f4")),
        ("general.architecture", 7),
        ("general.architecture", ""),
        ("general.architecture", "llama\n"),
        ("general.architecture", "x" * 65),
    ],
)
def test_contradictions_are_corrupt(header: GgufHeader, key: str, value: object) -> None:
    with pytest.raises(CorruptModel):
        model_facts(with_value(header, key, value))


def test_an_unknown_architecture_runs_whole(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes().replace(struct.pack("<Q", 5) + b"llama", struct.pack("<Q", 5) + b"other", 1))
    data = path.read_bytes().replace(b"llama.", b"other.")
    path.write_bytes(data)
    facts = model_facts(read_header(path))
    assert facts.architecture == "other"
    assert facts.legal_cuts == ()
    assert "other" in facts.whole_only
    assert len(facts.layer_bytes) == 5
    with pytest.raises(UnsupportedModel, match="other"):
        check_cut(facts, 0, 3)
    check_cut(facts, 0, 5)


def test_part_of_a_split_model_is_refused(header: GgufHeader) -> None:
    with pytest.raises(UnsupportedModel, match="several files"):
        model_facts(with_value(header, "split.count", 2))


@pytest.mark.parametrize("layers", [(0, 0), (-1, 2), (2, 1), (0, 6), (6, 7)])
def test_ranges_outside_the_model_are_refused(header: GgufHeader, layers: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedModel, match="no layers"):
        check_cut(replace(model_facts(header), n_layers=5), *layers)


def test_llama_may_be_cut_anywhere(header: GgufHeader) -> None:
    assert architecture("llama").legal_cuts(header, 5) == (1, 2, 3, 4)
    assert architecture("llama").legal_cuts(header, 1) == ()


@pytest.mark.parametrize(
    "name", ["blk.03.a", "blk.٣.a", "blk.-1.a", "blk.123456.a", "blk.3.", "blk.3", "blk.3.a\n", "a"]
)
def test_a_layer_is_spelt_in_one_way_only(name: str) -> None:
    assert layer_of(name) is None
    assert layer_of("blk.30.attn_q.weight") == (30, "attn_q.weight")
