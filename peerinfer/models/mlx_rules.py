"""Which models an MLX stage can run, by their header, and how their tensors are called in `mlx_lm.models`. Pure.

What is not understood to the last tensor and key is refused with the reason: llama.cpp runs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from gguf.constants import GGMLQuantizationType

from peerinfer.models.architecture_rules import number
from peerinfer.models.gguf import GgufHeader, TensorInfo

_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORMED: Final = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA: Final = {
    **_BLOCK,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FUSED: Final = {
    **{stem: path for stem, path in _BLOCK.items() if stem not in ("attn_q", "attn_k", "attn_v", "ffn_gate")},
    "attn_qkv": "self_attn.qkv_proj",
    "ffn_up": "mlp.gate_up_proj",
}


@dataclass(frozen=True, slots=True)
class MlxRules:
    """What MLX needs to know of one architecture."""

    names: Mapping[str, str]
    """For each tensor of a layer, without `blk.N.` and `.weight`, the path of its module in a block of `mlx_lm`."""
    module: str
    """Of `mlx_lm.models`."""
    pairs_are_neighbours: bool = False
    """Whether RoPE turns numbers 2i and 2i+1 together (the Q and K rows of llama's GGUF files are permuted so), rather
    than i and i + half."""
    masks_by_group: bool = False
    """The class of `mlx_lm` lays out scores by groups of heads, so that a mask of several sequences needs a fifth axis.
    """
    heads_fill_width: bool = False
    """The class of `mlx_lm` infers the size of a head from the width."""


MLX_RULES: Final[Mapping[str, MlxRules]] = {
    "llama": MlxRules(_BLOCK, "llama", pairs_are_neighbours=True),
    "qwen2": MlxRules(_BLOCK, "qwen2", heads_fill_width=True),
    "qwen3": MlxRules({**_BLOCK, **_NORMED}, "qwen3"),
    "gemma2": MlxRules(_GEMMA, "gemma2", masks_by_group=True),
    "gemma3": MlxRules({**_GEMMA, **_NORMED}, "gemma3_text"),
    "phi3": MlxRules(_FUSED, "phi3", heads_fill_width=True),
}
"""The architectures that an MLX stage can run. Mistral and SmolLM models are of the architecture llama."""
ROPE_SCALINGS: Final = ("", "none", "linear", "longrope")
"""Ways to scale positions that an MLX stage computes as llama.cpp does."""
HALF_TYPES: Final = (GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


def mlx_refusal(header: GgufHeader) -> str:
    """Why MLX cannot run this model, as the part of a sentence behind "for"; empty if it can.

    Raises `CorruptModel` if a key has a wrong value.
    """
    name = header.text("general.architecture")
    rules = MLX_RULES.get(name)
    if rules is None:
        return f"peerinfer runs the architecture {name[:64]!r} with llama.cpp only"
    if number(header, "expert_count", 0):
        return "models with experts run with llama.cpp only"
    scaling = header.metadata.get(f"{name}.rope.scaling.type", "")
    if scaling not in ROPE_SCALINGS:
        return f"its way to scale positions ({str(scaling)[:32]!r}) is known to llama.cpp only"
    return _unlike_heads(header, rules) or _unknown_tensor(header, rules)


def _unlike_heads(header: GgufHeader, rules: MlxRules) -> str:
    name = header.text("general.architecture")
    for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        if isinstance(header.metadata.get(f"{name}.{key}"), np.ndarray):
            return f"its layers differ in {key!r}"
    heads = number(header, "attention.head_count")
    if not heads:
        return "it has no attention"
    width = number(header, "embedding_length") // heads
    size = number(header, "attention.key_length", width)
    if number(header, "attention.value_length", width) != size:
        return "its keys and values differ in size"
    if rules.heads_fill_width and size != width:
        return "its heads have a size of their own"
    return ""


def _unknown_tensor(header: GgufHeader, rules: MlxRules) -> str:
    for tensor in header.tensors:
        if tensor.name.startswith("blk."):
            stem = tensor.name.split(".", 2)[-1].rpartition(".")
            if stem[0] not in rules.names or stem[2] not in ("weight", "bias"):
                return f"what its tensor {tensor.name!r} is for is not known"
        elif tensor.name.endswith(".bias"):
            return f"what its tensor {tensor.name!r} is for is not known"
    return ""


def mlx_bytes(tensor: TensorInfo) -> int:
    """Bytes that MLX holds for a tensor: see `engine/mlx_weights.py`."""
    weights = math.prod(tensor.shape)
    if len(tensor.shape) == 1 or tensor.type is GGMLQuantizationType.F32 or tensor.shape[0] % GROUP:
        return 4 * weights
    return 2 * weights if tensor.type in HALF_TYPES else weights * (mlx_bits(tensor.type) + 2 * 32 // GROUP) // 8


GROUP: Final = 32
"""Weights that share a scale and a bias, two numbers of 32 bits."""
_BITS: Final = {
    **dict.fromkeys((GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q4_K), 4),
    **dict.fromkeys((GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q5_1, GGMLQuantizationType.Q5_K), 5),
}


def mlx_bits(kind: GGMLQuantizationType) -> int:
    """Bits of a quantised weight: as many as in the file where MLX's format can say the same, else 8."""
    return _BITS.get(kind, 8)
