"""The rows of the table of architectures, each proven by a tiny model in `tests/engine/test_architectures.py`.

The source of a row is the file of its name under `src/models/` of llama.cpp: its hyper-parameters, its tensors, and
what its graph computes from a layer's number or from how many layers there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from peerinfer.errors import CorruptModel
from peerinfer.models.architecture_rules import (
    WINDOW_KEY,
    Architecture,
    Entry,
    SlidingWindow,
    number,
    window_is_set,
)
from peerinfer.models.gguf import GgufHeader, ValueType

_NO_ROPE_STEP = 4
"""Every fourth layer of smollm3 and llama4 does not rotate by position (`n_no_rope_layer_step`)."""
_WINDOW_NOTE = "the pattern of sliding windows is written out for the layers of the shard"
_EXPERTS_NOTE = "mixture of experts"


def _root_of_width(header: GgufHeader) -> float:
    return math.sqrt(number(header, "embedding_length"))


def _embedding_scale(header: GgufHeader) -> float:
    value = header.metadata.get(f"{header.text('general.architecture')}.embedding_scale", 0.0)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CorruptModel(f"{header.name} is damaged: its embedding scale is no number. Fetch or convert it again.")
    return float(np.float32(value)) or 1.0


def _neutral_embedding_scale(_header: GgufHeader, _n_layers: int) -> Mapping[str, Entry]:
    """llama.cpp multiplies any input by the scale (`build_inp_embd`), which only looked-up embeddings should be."""
    return {"embedding_scale": (1.0, ValueType.FLOAT32, None)}


def _inferred_scale(n_layers: int, family: str) -> Callable[[GgufHeader, int], str]:
    """A refusal: llama.cpp takes another attention scale for a model of exactly `n_layers`, which no shard can say."""

    def refusal(header: GgufHeader, n_in_model: int) -> str:
        heads = max(1, number(header, "attention.head_count"))
        width = number(header, "embedding_length") // heads
        if n_in_model < n_layers or number(header, "attention.key_length", width) == width:
            return ""
        return f"llama.cpp infers the attention scale of {family} from its {n_layers} layers, which a shard has not"

    return refusal


def _every(step: int) -> Callable[[GgufHeader, int], int]:
    return lambda _header, _n_layers: step


ROWS = (
    Architecture("llama", "also most models derived from Llama, with or without experts"),
    Architecture("mistral3"),
    Architecture("qwen2"),
    Architecture("qwen3"),
    Architecture("qwen3moe", _EXPERTS_NOTE),
    Architecture(
        "gemma2",
        f"{_WINDOW_NOTE}; hidden states enter behind the graph's own embedding factor",
        sliding=SlidingWindow(2),
        embedding_factor=_root_of_width,
        input_tensor="inp_scaled",
        refusal=_inferred_scale(46, "Gemma 2 27B"),
    ),
    Architecture(
        "gemma3",
        _WINDOW_NOTE,
        sliding=SlidingWindow(6, active=window_is_set),
        embedding_factor=_root_of_width,
        refusal=_inferred_scale(62, "Gemma 3 27B"),
    ),
    Architecture("phi3"),
    Architecture("olmo2", _WINDOW_NOTE, sliding=SlidingWindow(4, active=window_is_set), head_required=True),
    Architecture(
        "granite",
        "the embedding scale is applied by the first stage and taken out of the shards",
        embedding_factor=_embedding_scale,
        rewritten=_neutral_embedding_scale,
    ),
    Architecture(
        "smollm3",
        "every fourth layer does not rotate by position",
        cuts=f"at multiples of {_NO_ROPE_STEP}",
        cut_step=_every(_NO_ROPE_STEP),
    ),
    Architecture(
        "gpt-oss",
        f"{_EXPERTS_NOTE}; {_WINDOW_NOTE}",
        sliding=SlidingWindow(2),
        required_keys=("attention.head_count", WINDOW_KEY),
        head_required=True,
    ),
)
