"""Tiny models of many architectures with random weights: a table of their keys and tensors, and one writer for all.

Shapes are numpy's: rows first. Windows are shorter than what tests run, so that a wrong pattern shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH = 32
HEADS = 4
KV_HEADS = 2
HEAD = WIDTH // HEADS
FFN = 48
VOCAB = 48
EXPERTS = 4
EXPERT_FFN = 16
WINDOW = 4

Shape = tuple[int, ...]
Tensors = dict[str, Shape]
EXPERT_KEYS = {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": EXPERT_FFN}


def attention(head: int = HEAD, kv_heads: int = KV_HEADS, *, norms: str = "", bias: str = "") -> Tensors:
    """Query, key, value and output; `norms` and `bias` name which have one, such as `qk` and `qkvo`."""
    rows = {"q": HEADS * head, "k": kv_heads * head, "v": kv_heads * head}
    made: Tensors = {f"attn_{part}.weight": (size, WIDTH) for part, size in rows.items()}
    made["attn_output.weight"] = (WIDTH, HEADS * head)
    made |= {f"attn_{part}.bias": (rows[part],) for part in bias if part != "o"}
    if "o" in bias:
        made["attn_output.bias"] = (WIDTH,)
    made |= {f"attn_{part}_norm.weight": (head,) for part in norms}
    return made


def norms(*names: str, bias: bool = False) -> Tensors:
    """Norms over the width, such as `attn_norm`."""
    made: Tensors = {f"{name}.weight": (WIDTH,) for name in names}
    return made | ({f"{name}.bias": (WIDTH,) for name in names} if bias else {})


def feed_forward(parts: str = "gud", *, bias: bool = False) -> Tensors:
    """Gate, up and down; phi3 and glm4 have gate and up in one (`u` twice as high)."""
    shapes: dict[str, tuple[str, Shape]] = {
        "g": ("ffn_gate", (FFN, WIDTH)),
        "u": ("ffn_up", (FFN, WIDTH)),
        "U": ("ffn_up", (2 * FFN, WIDTH)),
        "d": ("ffn_down", (WIDTH, FFN)),
    }
    made: Tensors = {f"{name}.weight": shape for name, shape in map(shapes.__getitem__, parts)}
    return made | ({f"{name}.bias": (shape[0],) for name, shape in map(shapes.__getitem__, parts)} if bias else {})


def experts(size: int = EXPERT_FFN, *, shared: int = 0, bias: bool = False) -> Tensors:
    """A router and its experts, with one shared expert of height `shared` if that is not 0."""
    shapes: Tensors = {"gate": (EXPERTS, size, WIDTH), "up": (EXPERTS, size, WIDTH), "down": (EXPERTS, WIDTH, size)}
    made: Tensors = {"ffn_gate_inp.weight": (EXPERTS, WIDTH)}
    for part, shape in shapes.items():
        made[f"ffn_{part}_exps.weight"] = shape
        if bias:
            made[f"ffn_{part}_exps.bias"] = shape[:2]
        if shared:
            made[f"ffn_{part}_shexp.weight"] = (WIDTH, shared) if part == "down" else (shared, WIDTH)
    return made


@dataclass(frozen=True)
class Tiny:
    """One tiny model."""

    architecture: str
    layer: Callable[[int], Tensors]
    """The tensors of a layer, by its number."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Keys besides those that all have, without their prefix."""
    layers: int = 4
    tied: bool = True
    ends: Tensors = field(default_factory=dict)
    """Tensors of no layer besides embedding table, final norm and head."""


def always(*parts: Tensors) -> Callable[[int], Tensors]:
    """The same tensors in each layer."""
    whole: Tensors = {}
    for part in parts:
        whole |= part
    return lambda _layer: whole


_PRE = norms("attn_norm", "ffn_norm")
_LLAMA = always(_PRE, attention(), feed_forward())
_GEMMA = norms("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
_SLIDING = {"attention.sliding_window": WINDOW}
_ROPE_FACTORS: Tensors = {"rope_factors_long.weight": (HEAD // 2,), "rope_factors_short.weight": (HEAD // 2,)}

MODELS: dict[str, Tiny] = {
    "llama": Tiny("llama", _LLAMA, ends={"rope_freqs.weight": (HEAD // 2,)}),
    "llama of experts": Tiny(
        "llama", always(_PRE, attention(), experts(FFN)), {"expert_count": EXPERTS, "expert_used_count": 2}, tied=False
    ),
    "mistral3": Tiny(
        "mistral3",
        _LLAMA,
        {"attention.temperature_scale": 0.5, "rope.scaling.original_context_length": 8},
        tied=False,
    ),
    "qwen2": Tiny("qwen2", always(_PRE, attention(bias="qkv"), feed_forward())),
    "qwen3": Tiny("qwen3", always(_PRE, attention(16, norms="qk"), feed_forward()), {"attention.key_length": 16}),
    "qwen3moe": Tiny("qwen3moe", always(_PRE, attention(norms="qk"), experts()), EXPERT_KEYS, tied=False),
    "gemma2": Tiny(
        "gemma2",
        always(_GEMMA, attention(), feed_forward()),
        {**_SLIDING, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        layers=5,
    ),
    "gemma3": Tiny("gemma3", always(_GEMMA, attention(norms="qk"), feed_forward()), _SLIDING, layers=7),
    "gemma3 of its own period": Tiny(
        "gemma3",
        always(_GEMMA, attention(norms="qk"), feed_forward()),
        {**_SLIDING, "attention.sliding_window_pattern": 3, "rope.freq_base_swa": 100.0},
        tied=False,
    ),
    "gemma3 without windows": Tiny("gemma3", always(_GEMMA, attention(norms="qk"), feed_forward())),
    "phi3": Tiny(
        "phi3",
        always(
            _PRE,
            {"attn_qkv.weight": (WIDTH + 2 * KV_HEADS * HEAD, WIDTH), "attn_output.weight": (WIDTH, WIDTH)},
            feed_forward("Ud"),
        ),
        {"rope.scaling.original_context_length": 32},
        ends=_ROPE_FACTORS,
    ),
    "olmo2": Tiny(
        "olmo2",
        always(
            norms("post_attention_norm", "post_ffw_norm", "attn_q_norm"),
            {"attn_k_norm.weight": (KV_HEADS * HEAD,)},
            attention(),
            feed_forward(),
        ),
        {
            **_SLIDING,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 8.0,
            "rope.scaling.original_context_length": 8,
        },
        layers=5,
        tied=False,
    ),
    "granite": Tiny(
        "granite",
        _LLAMA,
        {"embedding_scale": 12.0, "logit_scale": 8.0, "residual_scale": 0.22, "attention.scale": 0.3},
    ),
    "smollm3": Tiny("smollm3", _LLAMA, layers=9),
    "gpt-oss": Tiny(
        "gpt-oss",
        always(
            norms("attn_norm", "post_attention_norm"),
            attention(bias="qkvo"),
            {"attn_sinks.weight": (HEADS,), "ffn_gate_inp.bias": (EXPERTS,)},
            experts(bias=True),
        ),
        {**_SLIDING, **EXPERT_KEYS},
        layers=5,
        tied=False,
    ),
}


def write_tiny(path: Path, tiny: Tiny, changes: Mapping[str, Any] | None = None, seed: int = 0) -> Path:
    """Writes the model to `path`. `changes` are further keys without their prefix; None takes one away."""
    writer = gguf.GGUFWriter(path, tiny.architecture)
    keys: dict[str, Any] = {
        "block_count": tiny.layers,
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": tiny.keys.get("attention.key_length", HEAD),
        "vocab_size": VOCAB,
        "attention.value_length": tiny.keys.get("attention.key_length", HEAD),
        **tiny.keys,
        **(changes or {}),
    }
    for key, value in keys.items():
        if value is not None:
            _add_key(writer, f"{tiny.architecture}.{key}", value)
    writer.add_tokenizer_model("none")
    random = np.random.default_rng(seed)
    for name, shape in _tensors(tiny).items():
        writer.add_tensor(name, _values(random, name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds.get(type(value), writer.add_array)(key, value)


def _tensors(tiny: Tiny) -> Tensors:
    made: Tensors = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,), **tiny.ends}
    if not tiny.tied:
        made["output.weight"] = (VOCAB, WIDTH)
    for layer in range(tiny.layers):
        made |= {f"blk.{layer}.{name}": shape for name, shape in tiny.layer(layer).items()}
    return made


def _values(random: np.random.Generator, name: str, shape: Shape) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = random.standard_normal(shape, np.float32)
    if "norm.weight" in name or name.startswith("rope_f"):
        return np.float32(1) + np.float32(0.2) * np.abs(values)
    return values * np.float32(0.5 if len(shape) == 1 else shape[-1] ** -0.5)
