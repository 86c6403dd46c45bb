"""A tiny model whose packed weights are random bits, written without MLX; what its GGUF file must hold is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf.quants import dequantize

from peerinfer.models.gguf import read_header
from tests.models.mlx_folders import BASE
from tests.models.raw_safetensors import Stored

CONFIG: dict[str, Any] = {
    **BASE,
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "quantization": {"group_size": 32, "bits": 4},
}


def packed(rows: int, columns: int, seed: int, *, bits: int = 4, group: int = 32) -> dict[str, Stored]:
    """Random weights as MLX packs them."""
    chance = np.random.default_rng(seed)
    words = chance.integers(0, 1 << 32, (rows, columns * bits // 32), np.uint32)
    scales = (chance.standard_normal((rows, columns // group)) * 0.01).astype(np.float16)
    biases = (chance.standard_normal((rows, columns // group)) * 0.1).astype(np.float16)
    return {"weight": ("U32", words), "scales": ("F16", scales), "biases": ("F16", biases)}


def tensors() -> dict[str, Stored]:
    """Those of `CONFIG`."""
    chance = np.random.default_rng(0)
    shapes = {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (96, 64),
        "mlp.up_proj": (96, 64),
        "mlp.down_proj": (64, 96),
    }
    modules = {"model.embed_tokens": (320, 64)}
    modules |= {f"model.layers.{layer}.{name}": shape for layer in range(2) for name, shape in shapes.items()}
    made: dict[str, Stored] = {}
    for seed, (module, shape) in enumerate(modules.items()):
        made |= {f"{module}.{part}": stored for part, stored in packed(*shape, seed).items()}
    norms = [
        f"model.layers.{layer}.{name}" for layer in range(2) for name in ("input_layernorm", "post_attention_layernorm")
    ]
    for name in (*norms, "model.norm"):
        made[f"{name}.weight"] = ("F16", chance.standard_normal(64).astype(np.float16))
    return made


def weights_of(path: Path, name: str) -> np.ndarray:
    """A tensor of a GGUF file, as float32."""
    tensor = read_header(path).by_name[name]
    raw = path.read_bytes()[tensor.offset : tensor.offset + tensor.n_bytes]
    rows = np.frombuffer(raw, np.uint8).reshape(*tensor.shape[1:][::-1], -1)
    return dequantize(rows, tensor.type).reshape(tensor.shape[::-1])
