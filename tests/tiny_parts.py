"""What tiny models of many architectures are made of: parts of layers, and one writer for all.

Shapes are numpy's: rows first. Windows are shorter than what tests run, so that a wrong pattern shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from peerinfer.models.architecture_rules import full_key

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


PRE = norms("attn_norm", "ffn_norm")
PRE_BIASED = norms("attn_norm", "ffn_norm", bias=True)
LLAMA = always(PRE, attention(), feed_forward())
GEMMA = norms("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
FUSED: Tensors = {
    "attn_qkv.weight": (WIDTH + 2 * KV_HEADS * HEAD, WIDTH),
    "attn_output.weight": (WIDTH, WIDTH),
}
SLIDING = {"attention.sliding_window": WINDOW}
ROPE_FACTORS: Tensors = {"rope_factors_long.weight": (HEAD // 2,), "rope_factors_short.weight": (HEAD // 2,)}
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": None}


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
        "attention.key_length": HEAD,
        "attention.value_length": tiny.keys.get("attention.key_length", HEAD),
        **tiny.keys,
        **(changes or {}),
    }
    for key, value in keys.items():
        if value is not None:
            _add_key(writer, full_key(tiny.architecture, key), value)
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
