"""What single architectures compute from the width, from the number of layers or from a key, as functions of a header.

The rows of `architecture_table.py` are made of these. The source of each is the file of its architecture under
`src/models/` of llama.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from peerinfer.errors import CorruptModel
from peerinfer.models.architecture_rules import WINDOW_KEY, Entry, number, window_is_set
from peerinfer.models.gguf import GgufHeader, ValueType
from peerinfer.models.gguf_cursor import StringArray

NO_ROPE_STEP = 4
"""Every fourth layer of smollm3 and llama4 does not rotate by position (`n_no_rope_layer_step`)."""
_GATING_SOFTMAX = 1
_GATING_SIGMOID = 2
"""`llama_expert_gating_func_type` in llama-hparams.h."""


def root_of_width(header: GgufHeader) -> float:
    """What Gemma multiplies embeddings by."""
    return math.sqrt(number(header, "embedding_length"))


def embedding_scale(header: GgufHeader) -> float:
    """What Granite multiplies embeddings by, 1 if nothing. Raises `CorruptModel` if it is no number."""
    value = header.metadata.get(f"{header.text('general.architecture')}.embedding_scale", 0.0)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CorruptModel(f"{header.name} is damaged: its embedding scale is no number. Fetch or convert it again.")
    return float(np.float32(value)) or 1.0


def neutral_embedding_scale(_header: GgufHeader, _n_layers: int) -> Mapping[str, Entry]:
    """llama.cpp multiplies any input by the scale (`build_inp_embd`), which only looked-up embeddings should be."""
    return {"embedding_scale": (1.0, ValueType.FLOAT32, None)}


def inferred_scale(n_layers: int, family: str) -> Callable[[GgufHeader, int], str]:
    """A refusal: llama.cpp takes another attention scale for a model of exactly `n_layers`, which no shard can say."""

    def refusal(header: GgufHeader, n_in_model: int) -> str:
        heads = max(1, number(header, "attention.head_count"))
        width = number(header, "embedding_length") // heads
        if n_in_model < n_layers or number(header, "attention.key_length", width) == width:
            return ""
        return f"llama.cpp infers the attention scale of {family} from its {n_layers} layers, which a shard has not"

    return refusal


def _vocabulary(header: GgufHeader) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return number(header, "vocab_size", len(tokens) if isinstance(tokens, StringArray) else 0)


def _lite_layers(header: GgufHeader) -> tuple[int, ...]:
    """Numbers of layers by which llama.cpp tells models without compressed queries; it would tell a shard so too."""
    return (26, 27, 48) if _vocabulary(header) == 128_256 else (26, 27)


def deepseek_keys(header: GgufHeader, n_layers: int) -> Mapping[str, Entry]:
    """What llama.cpp infers from 26, 27, 47 or 48 layers and the vocabulary, said outright."""
    keys: dict[str, Entry] = {}
    if n_layers in _lite_layers(header):
        keys["attention.q_lora_rank"] = (0, ValueType.UINT32, None)
    if not number(header, "expert_gating_func", 0):
        sigmoid = n_layers in (47, 48) and _vocabulary(header) == 154_880
        keys["expert_gating_func"] = (_GATING_SIGMOID if sigmoid else _GATING_SOFTMAX, ValueType.UINT32, None)
    return keys


def deepseek_step(header: GgufHeader, n_layers: int) -> int:
    """A step that gives no stage a number of layers by which llama.cpp would take it for another model."""
    lite = _lite_layers(header)
    if n_layers in lite or n_layers < min(lite):
        return 1
    steps = range(2, n_layers)
    return next((s for s in steps if all(n % s and (n_layers - n) % s for n in lite if n < n_layers)), n_layers)


def minicpm_keys(header: GgufHeader, n_layers: int) -> Mapping[str, Entry]:
    """The scales that llama.cpp has for older files, one of them from the number of layers."""
    keys = dict(neutral_embedding_scale(header, n_layers))
    if f"{header.text('general.architecture')}.residual_scale" not in header.metadata:
        scale = np.float32(1.4) / np.sqrt(np.float32(n_layers))
        keys["residual_scale"] = (float(scale), ValueType.FLOAT32, None)
    return keys


def minicpm_embedding_scale(header: GgufHeader) -> float:
    """MiniCPM's embedding scale, which older files do not say."""
    given = f"{header.text('general.architecture')}.embedding_scale" in header.metadata
    return embedding_scale(header) if given else 12.0


def no_window(header: GgufHeader, _n_layers: int) -> str:
    """llama.cpp then makes the layer without rotation the one that is first, or last, of all."""
    return "" if window_is_set(header) else "without sliding windows its rotation depends on the number of its layers"


def window_is_zero(header: GgufHeader, _n_layers: int) -> str:
    """As `no_window`, for an architecture that has a window unless the file says 0 (`llama4.cpp`)."""
    return no_window(header, 0) if number(header, WINDOW_KEY, 1) == 0 else ""


def from_layers(n_layers: int, what: str) -> Callable[[GgufHeader, int], str]:
    """A refusal: llama.cpp computes `what` in models of so many layers, and not in their shards."""

    def refusal(_header: GgufHeader, n_in_model: int) -> str:
        return f"llama.cpp infers {what} from its {n_layers} layers or more" if n_in_model >= n_layers else ""

    return refusal


def own_embeddings(header: GgufHeader, _n_layers: int) -> str:
    """A refusal of the small models of Gemma 4 (`gemma4.cpp`)."""
    if number(header, "embedding_length_per_layer_input", 0) or number(header, "attention.shared_kv_layers", 0):
        return "its layers share keys and values, or have embeddings of their own"
    return ""


def experts_step(header: GgufHeader, _n_layers: int) -> int:
    """Every how many layers there are experts, counted from the first."""
    return max(1, number(header, "interleave_moe_layer_step", 1))


def llama4_step(header: GgufHeader, n_layers: int) -> int:
    """A step at which both the pattern of rotation and that of experts begin anew."""
    return math.lcm(NO_ROPE_STEP, experts_step(header, n_layers))


def smallthinker_step(_header: GgufHeader, n_layers: int) -> int:
    """llama.cpp rotates all layers of a model of `NO_ROPE_STEP` layers, so no stage may have that many."""
    steps = range(2 * NO_ROPE_STEP, n_layers, NO_ROPE_STEP)
    return next((step for step in steps if (n_layers - NO_ROPE_STEP) % step), n_layers)


def no_pictures(_header: GgufHeader, _n_layers: int) -> Mapping[str, Entry]:
    """Without pictures nothing is added to the first layers, and inputs are no wider than hidden states."""
    return {"n_deepstack_layers": (0, ValueType.UINT32, None)}


def every(step: int) -> Callable[[GgufHeader, int], int]:
    """The same step for all models."""
    return lambda _header, _n_layers: step
