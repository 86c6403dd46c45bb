"""The table's named errors: a wrong cut, a key missing or of a wrong length, a constant that no shard can say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.architectures import TABLE, architecture
from peerinfer.models.facts import ModelFacts, model_facts
from peerinfer.models.gguf import GgufHeader, read_header
from peerinfer.models.shard_writer import plan_stage
from tests.tiny_architectures import MODELS
from tests.tiny_parts import write_tiny


def header_of(tmp_path: Path, name: str, changes: Mapping[str, Any] | None = None) -> GgufHeader:
    return read_header(write_tiny(tmp_path / "tiny.gguf", MODELS[name], changes))


def layers(tmp_path: Path, name: str, count: int, changes: Mapping[str, Any] | None = None) -> ModelFacts:
    """The facts of the model `name` made `count` layers tall."""
    header = header_of(tmp_path, name, changes)
    kept = [tensor for tensor in header.tensors if not tensor.name.startswith("blk.")]
    rows = [tensor for tensor in header.tensors if tensor.name.startswith("blk.0.")]
    tensors = [replaced(row, layer) for layer in range(count) for row in rows] + kept
    tall = GgufHeader(
        header.name,
        {**header.metadata, f"{MODELS[name].architecture}.block_count": count},
        header.types,
        tuple(tensors),
        header.alignment,
        header.data_offset,
        header.file_bytes,
        header.by_name,
    )
    return model_facts(tall)


def replaced(tensor: Any, layer: int) -> Any:
    return type(tensor)(
        tensor.name.replace("blk.0.", f"blk.{layer}."), tensor.shape, tensor.type, tensor.offset, tensor.n_bytes
    )


def test_no_architecture_stands_in_the_table_twice() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    assert all(bool(row.whole_only) == (row.cuts == "never") for row in TABLE)


def test_a_wrong_cut_says_which_are_right(tmp_path: Path) -> None:
    header = header_of(tmp_path, "smollm3")
    assert model_facts(header).legal_cuts == (4, 8)
    with pytest.raises(UnsupportedModel, match=r"Layers 0-3 cannot be a stage of a smollm3 model.*legal cuts: 4, 8\."):
        plan_stage(header, 0, 3, "trunk")


@pytest.mark.parametrize("name", ["mamba", "qwen35", "bert", "t5", "gpt2", "no-such-thing"])
def test_what_runs_whole_says_why(name: str) -> None:
    assert len(architecture(name).whole_only.split()) > 4


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llama", "attention.head_count"),
        ("gpt-oss", "attention.sliding_window"),
        ("cohere2", "attention.sliding_window"),
        ("gemma4", "attention.sliding_window_pattern"),
        ("gpt-oss", "block_count"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, name: str, key: str) -> None:
    with pytest.raises(CorruptModel, match=key):
        model_facts(header_of(tmp_path, name, {key: None}))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gemma2", "attention.sliding_window_pattern", [True, False]),
        ("gemma3", "attention.sliding_window_pattern", [0.5] * 7),
        ("gemma2", "attention.sliding_window_pattern", "two"),
        ("openelm", "feed_forward_length", [48, 32, 64]),
        ("openelm", "attention.head_count_kv", [2, 1, 3, 2, 1]),
        ("apertus", "xielu.beta", [0.5]),
    ],
)
def test_a_key_of_a_wrong_length_or_kind_is_named(tmp_path: Path, name: str, key: str, value: object) -> None:
    header = header_of(tmp_path, name, {key: value})
    with pytest.raises(CorruptModel, match=key):
        model_facts(header)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "twelve"])
def test_an_embedding_scale_that_is_no_number_is_named(tmp_path: Path, scale: object) -> None:
    header = header_of(tmp_path, "granite", {"embedding_scale": scale})
    with pytest.raises(CorruptModel, match="embedding scale"):
        architecture("granite").embedding_factor(header)


def test_an_array_of_unknown_use_forbids_cutting(tmp_path: Path) -> None:
    header = header_of(tmp_path, "granite", {"deepstack_mapping": [-1, 0, 1, -1]})
    facts = model_facts(header)
    assert facts.legal_cuts == ()
    with pytest.raises(UnsupportedModel, match=r"deepstack_mapping.*Run the model whole on one node"):
        plan_stage(header, 0, 2, "trunk")


@pytest.mark.parametrize(
    ("name", "count", "what"),
    [
        ("gemma2", 46, "attention scale"),
        ("gemma3", 62, "attention scale"),
        ("command-r", 64, "norms of queries"),
        ("exaone4", 64, "sliding windows"),
    ],
)
def test_a_constant_inferred_from_the_number_of_layers_is_refused(
    tmp_path: Path, name: str, count: int, what: str
) -> None:
    changes = {"attention.key_length": 16} if "gemma" in name else {}
    assert layers(tmp_path, name, count - 1, changes).legal_cuts
    tall = layers(tmp_path, name, count, changes)
    assert tall.legal_cuts == ()
    assert what in tall.whole_only


def test_a_scale_that_both_rules_give_is_not_refused(tmp_path: Path) -> None:
    assert layers(tmp_path, "gemma2", 46).legal_cuts


@pytest.mark.parametrize(("name", "window"), [("llama4", 0), ("smallthinker", 0), ("smallthinker", None)])
def test_a_rotation_that_depends_on_the_last_layer_is_refused(tmp_path: Path, name: str, window: int | None) -> None:
    facts = model_facts(header_of(tmp_path, name, {"attention.sliding_window": window}))
    assert facts.legal_cuts == ()
    assert "rotation" in facts.whole_only


@pytest.mark.parametrize("key", ["embedding_length_per_layer_input", "attention.shared_kv_layers"])
def test_a_gemma4_whose_layers_lean_on_others_runs_whole(tmp_path: Path, key: str) -> None:
    assert model_facts(header_of(tmp_path, "gemma4")).legal_cuts == (2, 4, 6)
    facts = model_facts(header_of(tmp_path, "gemma4", {key: 4}))
    assert facts.legal_cuts == ()
    assert "share keys" in facts.whole_only


def test_the_cache_of_unlike_layers_is_that_of_the_widest(tmp_path: Path) -> None:
    assert model_facts(header_of(tmp_path, "gemma4")).kv_widths == (16, 16)
    wide = {"attention.head_count_kv": [2, 2, 2, 2, 2, 2, 2, 2]}
    assert model_facts(header_of(tmp_path, "gemma4", wide)).kv_widths == (32, 32)
    assert model_facts(header_of(tmp_path, "openelm")).kv_widths == (24, 24)


def test_every_stage_keeps_a_sliding_layer(tmp_path: Path) -> None:
    dense_twice = {"attention.sliding_window_pattern": [False, True, False, False, True]}
    assert model_facts(header_of(tmp_path, "gemma2", dense_twice)).legal_cuts == (2,)
    none_slides = {"attention.sliding_window_pattern": [False] * 5}
    assert model_facts(header_of(tmp_path, "gemma2", none_slides)).legal_cuts == ()


@pytest.mark.parametrize("count", [28, 47, 53, 60, 61])
def test_no_stage_of_deepseek_is_taken_for_a_lite_model(tmp_path: Path, count: int) -> None:
    facts = layers(tmp_path, "deepseek2", count)
    ends = [0, *facts.legal_cuts, count]
    assert len(ends) > 2
    assert not {last - first for first in ends for last in ends} & {26, 27}


@pytest.mark.parametrize("count", [24, 32, 52])
def test_no_stage_of_smallthinker_has_as_many_layers_as_its_pattern(tmp_path: Path, count: int) -> None:
    facts = layers(tmp_path, "smallthinker", count)
    ends = [0, *facts.legal_cuts, count]
    assert len(ends) > 2
    assert not {last - first for first in ends for last in ends} & {4}


def test_what_deepseek_infers_is_written_out(tmp_path: Path) -> None:
    rules = architecture("deepseek2")
    lite = rules.stage_keys(header_of(tmp_path, "deepseek2 lite, as first converted"), 27, 0, 5)
    assert lite["deepseek2.attention.q_lora_rank"][0] == 0
    assert lite["deepseek2.expert_gating_func"][0] == 1
    full = rules.stage_keys(header_of(tmp_path, "deepseek2"), 61, 0, 5)
    assert not {"deepseek2.attention.q_lora_rank", "deepseek2.expert_gating_func"} & set(full)
    changes = {"vocab_size": 154_880, "expert_gating_func": None}
    flash = rules.stage_keys(header_of(tmp_path, "deepseek2", changes), 47, 0, 5)
    assert flash["deepseek2.expert_gating_func"][0] == 2


def test_dense_first_layers_and_guessing_layers_are_those_of_the_shard(tmp_path: Path) -> None:
    header = header_of(tmp_path, "glm4moe")
    facts = model_facts(header)
    assert facts.n_layers == 4
    rules = architecture("glm4moe")
    dense = [rules.stage_keys(header, 4, first, 4)["glm4moe.leading_dense_block_count"][0] for first in range(4)]
    assert dense == [2, 1, 0, 0]
    last = plan_stage(header, 3, 4, "last")
    assert last.metadata["glm4moe.nextn_predict_layers"][0] == 0
    assert not any("nextn" in source.name or source.name.startswith("blk.1.") for source in last.sources)


def test_arrays_are_sliced_and_head_sizes_written_out(tmp_path: Path) -> None:
    plan = plan_stage(header_of(tmp_path, "openelm"), 1, 3, "trunk")
    assert plan.metadata["openelm.attention.head_count"][0] == [2, 6]
    assert plan.metadata["openelm.feed_forward_length"][0] == [32, 64]
    assert plan.metadata["openelm.attention.key_length"][0] == 8
    pattern = plan_stage(header_of(tmp_path, "gemma3"), 3, 7, "last").metadata
    assert pattern["gemma3.attention.sliding_window_pattern"][0] == [True, True, False, True]
