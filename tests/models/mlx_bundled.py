"""The bundled SmolLM2 as the MLX community would publish it: vocabulary in `tokenizer.json`, weights packed by MLX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import TokenType
from gguf.quants import dequantize

from peerinfer.models.gguf import GgufHeader, read_header
from peerinfer.models.mlx_rules import MLX_RULES
from tests.bundled import bundled_model
from tests.models.mlx_folders import added_token

HEADS = {"attn_q": "head_count", "attn_k": "head_count_kv"}
LLAMA = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def bundled_tokenizer() -> dict[str, Any]:
    """Its `tokenizer.json`, with the stages of the original."""
    metadata: Mapping[str, Any] = read_header(bundled_model()).metadata
    tokens, types = list(metadata["tokenizer.ggml.tokens"]), list(metadata["tokenizer.ggml.token_type"])
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "added_tokens": [
            added_token(number, text)
            for number, (text, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == TokenType.CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, level],
        },
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": {text: number for number, text in enumerate(tokens)},
            "merges": list(metadata["tokenizer.ggml.merges"]),
        },
    }


def bundled_config() -> dict[str, Any]:
    """Its `config.json`."""
    header = read_header(bundled_model())
    names = {
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "rope_theta": "rope.freq_base",
        "vocab_size": "vocab_size",
        "max_position_embeddings": "context_length",
    }
    told = {name: header.metadata[f"llama.{key}"] for name, key in names.items()}
    return {**told, "model_type": "llama", "tie_word_embeddings": True, "eos_token_id": 2}


def write_bundled(folder: Path, *, bits: int = 4, group: int = 64) -> Path:
    """The whole model, its weights quantised anew by MLX."""
    import mlx.core as mx

    folder.mkdir(parents=True)
    header = read_header(bundled_model())
    config = bundled_config() | {"quantization": {"group_size": group, "bits": bits}}
    saved: dict[str, mx.array] = {}
    for name, weights in _weights(header):
        array = mx.array(weights).astype(mx.bfloat16)
        if weights.ndim == 1:
            saved[f"{name}.weight"] = array
            continue
        saved[f"{name}.weight"], saved[f"{name}.scales"], saved[f"{name}.biases"] = mx.quantize(
            array, group_size=group, bits=bits
        )
    mx.save_safetensors(str(folder / "model.safetensors"), saved, {"format": "mlx"})
    template = header.metadata["tokenizer.chat_template"]
    files = {
        "config.json": config,
        "tokenizer.json": bundled_tokenizer(),
        "tokenizer_config.json": {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "chat_template": template,
        },
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _weights(header: GgufHeader) -> Any:
    """Each module's name and weights, the rows of Q and K in their first order."""
    heads = {name: header.integer(f"llama.attention.{key}") for name, key in HEADS.items()}
    with bundled_model().open("rb") as file:
        for tensor in header.tensors:
            file.seek(tensor.offset)
            raw = np.frombuffer(file.read(tensor.n_bytes), np.uint8)
            weights = dequantize(raw.reshape(*tensor.shape[1:][::-1], -1), tensor.type).reshape(tensor.shape[::-1])
            stem = tensor.name.removesuffix(".weight")
            _, layer, kind = (*stem.split("."), "", "")[:3] if stem.startswith("blk.") else ("", "", stem)
            if kind in heads:
                weights = _unpermuted(weights, heads[kind])
            yield f"model.layers.{layer}.{MLX_RULES['llama'].names[kind]}" if layer else LLAMA[kind], weights


def _unpermuted(rows: np.ndarray, heads: int) -> np.ndarray:
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(rows.shape)
