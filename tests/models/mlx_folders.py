"""Folders as the MLX community publishes models: tiny ones with random weights, made by `mlx_lm`'s own classes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

TEXT_BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
MERGES = [("t", "h"), ("Ġ", "th"), ("e", "r"), ("Ġth", "e"), ("l", "l"), ("Ġ", "Ġ"), ("o", "w"), ("ll", "ow")]
SPECIALS = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
BASE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": [265, 266],
}
GEMMA: dict[str, Any] = {
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "hidden_act": "gelu_pytorch_tanh",
    "sliding_window": 256,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "hidden_act": "silu"},
    "llama untied, llama3 positions": {
        "model_type": "llama",
        "tie_word_embeddings": False,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama of wide heads": {"model_type": "llama", "head_dim": 64},
    "mistral, linear positions": {"model_type": "mistral", "rope_scaling": {"type": "linear", "factor": 4.0}},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6},
    "qwen3": {"model_type": "qwen3", "head_dim": 64},
    "gemma2": {"model_type": "gemma2", **GEMMA, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    "gemma3": {"model_type": "gemma3_text", **GEMMA, "num_hidden_layers": 7, "rope_theta": 1e6},
    "gemma3 of its own period": {
        "model_type": "gemma3_text",
        **GEMMA,
        "num_hidden_layers": 4,
        "sliding_window_pattern": 2,
        "rope_local_base_freq": 5000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi3": {"model_type": "phi3", "tie_word_embeddings": False, "rope_scaling": None},
}
"""By the name of what each proves; what they have besides `BASE`."""


def byte_texts() -> list[str]:
    """The character that stands for each byte in byte-level BPE."""
    others = iter(range(256, 512))
    return [chr(byte) if byte in TEXT_BYTES else chr(next(others)) for byte in range(256)]


def added_token(number: int, text: str) -> dict[str, Any]:
    """A special token as `tokenizer.json` lists it."""
    flags = dict.fromkeys(("single_word", "normalized", "lstrip", "rstrip"), False)
    return {"id": number, "content": text, "special": True, **flags}


def tokenizer_json(*, pattern: str = LLAMA_SPLIT) -> dict[str, Any]:
    """A byte-level tokenizer of Llama 3's kind with a few merges: 267 tokens."""
    texts = [*byte_texts(), *(left + right for left, right in MERGES)]
    added = [added_token(len(texts) + n, text) for n, text in enumerate(SPECIALS)]
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "ignore_merges": True,
            "byte_fallback": False,
            "vocab": {text: number for number, text in enumerate(texts)},
            "merges": [list(pair) for pair in MERGES],
        },
    }


def write_settings(folder: Path, config: dict[str, Any], tokenizer: dict[str, Any] | None = None) -> None:
    """All files of a model but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer or tokenizer_json(),
        "tokenizer_config.json": {"bos_token": SPECIALS[0], "eos_token": SPECIALS[2], "chat_template": TEMPLATE},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


class TinyModel:
    """A model of `mlx_lm` with random weights, saved in `folder`; `bits` 0 leaves it as it is."""

    def __init__(self, folder: Path, name: str, *, bits: int = 0, group: int = 64, dtype: str = "float16") -> None:
        import mlx.core as mx
        from mlx import nn, utils

        self.config = {**BASE, **CONFIGS[name]}
        kind = {"mistral": "llama"}.get(self.config["model_type"], self.config["model_type"])
        module: Any = importlib.import_module(f"mlx_lm.models.{kind}")
        self.model: Any = module.Model(module.ModelArgs.from_dict(self.config))
        mx.random.seed(7)
        weights = [(key, _random(key, value)) for key, value in utils.tree_flatten(self.model.parameters())]
        if kind == "gemma3_text":
            weights = list(self.model.sanitize({k: v for k, v in weights if not k.startswith("lm_head")}).items())
        self.model.load_weights([(key, value.astype(getattr(mx, dtype))) for key, value in weights])
        if bits:
            nn.quantize(self.model, group_size=group, bits=bits)
            self.config["quantization"] = {"group_size": group, "bits": bits}
        write_settings(folder, self.config)
        saved = dict(utils.tree_flatten(self.model.parameters()))
        mx.save_safetensors(str(folder / "model.safetensors"), saved, {"format": "mlx"})
        # In half precision the reference itself would be off by more than what is tested.
        self.model.set_dtype(mx.float32)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Of every position of one sequence, shape (tokens, vocabulary)."""
        import mlx.core as mx

        return np.asarray(self.model(mx.array(ids)[None])[0])


def _random(name: str, value: Any) -> Any:
    import mlx.core as mx

    noise = mx.random.normal(value.shape)
    if value.ndim == 1:
        return value + 0.1 * noise if "norm" in name else 0.1 * noise
    return noise * value.shape[-1] ** -0.5
