"""Options of a stage: a split with them equals the whole with the same, and contradictions are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peerinfer.engine.base import CACHE_TYPES, StageSpec, check_options
from peerinfer.engine.llama import LlamaStage
from peerinfer.errors import UnsupportedModel
from peerinfer.models.facts import cache_bytes, model_facts
from peerinfer.models.gguf import read_header
from tests.engine.chains import CONTEXT, assert_every_split_equals_the_whole, stages, story
from tests.tiny import write_tiny_llama

SPEC = StageSpec("whole", True, "", "", layers=1, n_embd=1, n_vocab=1, context=1, slots=1)


def tiny(folder: Path) -> Path:
    """A model whose heads are as wide as a block of a quantised cache."""
    return write_tiny_llama(folder / "tiny.gguf", layers=3, width=128)


@pytest.mark.parametrize(
    "options",
    [
        {"flash_attention": "on"},
        {"flash_attention": "auto", "gpu_layers": 0},
        {"flash_attention": "on", "cache_type_k": "q8_0", "cache_type_v": "q4_0"},
        {"flash_attention": "on", "cache_type_k": "bf16", "cache_type_v": "bf16"},
        {"cache_type_k": "q8_0"},
        {"cache_type_k": "f32", "cache_type_v": "f32"},
    ],
)
def test_a_split_equals_the_whole_with_the_same_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with stages(tiny(tmp_path), tmp_path, options) as made:
        assert_every_split_equals_the_whole(made)


def test_the_options_reach_llama(tmp_path: Path) -> None:
    """A coarser cache gives other logits, and takes less memory."""
    model = tiny(tmp_path)
    kept: dict[str, list[np.ndarray]] = {}
    bytes_used: dict[str, int] = {}
    for kind in ("f16", "q8_0", "q4_0"):
        options = {"flash_attention": "on", "cache_type_k": kind, "cache_type_v": kind}
        with stages(model, tmp_path, options) as made:
            kept[kind] = story(made.chain((1,)))
            bytes_used[kind] = made.stage(1, 3).kv_bytes
    far = [max(np.abs(a - b).max() for a, b in zip(kept["f16"], kept[kind], strict=True)) for kind in ("q8_0", "q4_0")]
    assert 0 < far[0] < far[1]
    assert bytes_used["f16"] == 2 * (64 + 64) * 2 * 2 * CONTEXT
    assert bytes_used["q8_0"] == bytes_used["f16"] * 34 // 64
    assert bytes_used["q4_0"] == bytes_used["f16"] * 18 // 64


def test_facts_tell_the_cache_of_any_type(tmp_path: Path) -> None:
    facts = model_facts(read_header(tiny(tmp_path)))
    assert facts.kv_widths == (64, 64)
    assert facts.kv_bytes_per_token_per_layer == cache_bytes(facts.kv_widths, "f16", "f16") == 256
    assert cache_bytes(facts.kv_widths, "q8_0", "f16") == 68 + 128


def test_coarse_values_need_flash_attention(tmp_path: Path) -> None:
    spec = replace(SPEC, cache_type_v="q8_0")
    with pytest.raises(UnsupportedModel, match=r"only with flash attention\. Turn it on"):
        check_options(spec)
    with pytest.raises(UnsupportedModel, match="only with flash attention"):
        LlamaStage(spec, lambda _: None)
    check_options(replace(spec, flash_attention="on"))
    check_options(replace(SPEC, cache_type_k="q8_0"))


@pytest.mark.parametrize(
    "wrong", [{"flash_attention": "yes"}, {"cache_type_k": "q2_k"}, {"cache_type_v": "Q8_0"}, {"cache_type_k": ""}]
)
def test_unknown_options_are_told_with_those_that_exist(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match="Choose one of"):
        check_options(replace(SPEC, **wrong))


def test_every_type_of_a_cache_has_a_size() -> None:
    assert all(cache_bytes((32, 32), kind, kind) > 0 for kind in CACHE_TYPES)
