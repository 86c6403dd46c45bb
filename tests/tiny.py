"""Tiny model files with random weights, small enough to write in a test and whole enough for llama.cpp to load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as QuantType
from gguf import TokenType

N_SPECIAL = 3
"""<unk>, <s> and </s>."""
N_BYTES = 256
"""One token for each byte, so that any text can be tokenised."""
PIECES = ("▁", *(chr(code) for code in range(33, 127)), "▁hello", "▁world", "th", "▁a")
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def write_tiny_llama(
    path: Path,
    *,
    layers: int = 5,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = 320,
    tied: bool = True,
    seed: int = 0,
    quant: QuantType = QuantType.F32,
    context: int = 512,
    rope_freqs: bool = False,
    experts: int = 0,
    experts_used: int = 2,
) -> Path:
    """Writes a llama model with random weights and a working tokenizer to `path`; the same arguments, the same bytes.

    `vocab` is at least 259. Matrices are of type `quant` (F32, F16, Q8_0, Q4_0 …; `width` must suit it), norms F32.
    With `experts` the model is a mixture of that many experts, of which `experts_used` are used for a token.
    """
    writer = gguf.GGUFWriter(path, "llama")
    _add_hyperparameters(
        writer,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        vocab=vocab,
        context=context,
        experts=experts,
        experts_used=experts_used,
    )
    _add_tokenizer(writer, vocab)
    weights = _Weights(writer, quant, seed)
    weights.matrix("token_embd.weight", vocab, width)
    for layer in range(layers):
        weights.layer(f"blk.{layer}.", width, width // heads * kv_heads, experts)
    weights.norm("output_norm.weight", width)
    if not tied:
        weights.matrix("output.weight", vocab, width)
    if rope_freqs:
        writer.add_tensor("rope_freqs.weight", np.linspace(1, 4, width // heads // 2, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Weights:
    """Adds random tensors to a writer."""

    def __init__(self, writer: Any, quant: QuantType, seed: int) -> None:
        self._writer = writer
        self._quant = quant
        self._random = np.random.default_rng(seed)

    def matrix(self, name: str, *shape: int) -> None:
        """Adds a matrix, or several, scaled so that its products keep their size."""
        weights = self._random.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        self._writer.add_tensor(name, gguf.quants.quantize(weights, self._quant), raw_dtype=self._quant)

    def norm(self, name: str, width: int) -> None:
        """Adds the weights of a norm, near 1."""
        self._writer.add_tensor(name, (1 + 0.1 * self._random.standard_normal(width)).astype(np.float32))

    def layer(self, prefix: str, width: int, key_width: int, experts: int) -> None:
        """Adds all tensors of one layer."""
        self.norm(f"{prefix}attn_norm.weight", width)
        self.matrix(f"{prefix}attn_q.weight", width, width)
        self.matrix(f"{prefix}attn_k.weight", key_width, width)
        self.matrix(f"{prefix}attn_v.weight", key_width, width)
        self.matrix(f"{prefix}attn_output.weight", width, width)
        self.norm(f"{prefix}ffn_norm.weight", width)
        many, kind = ((experts,), "_exps") if experts else ((), "")
        if experts:
            router = self._random.standard_normal((experts, width), np.float32)
            self._writer.add_tensor(f"{prefix}ffn_gate_inp.weight", router)
        self.matrix(f"{prefix}ffn_gate{kind}.weight", *many, 2 * width, width)
        self.matrix(f"{prefix}ffn_up{kind}.weight", *many, 2 * width, width)
        self.matrix(f"{prefix}ffn_down{kind}.weight", *many, width, 2 * width)


def _add_hyperparameters(
    writer: Any,
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    context: int,
    experts: int,
    experts_used: int,
) -> None:
    writer.add_name("tiny llama")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(vocab)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(experts_used)


def _add_tokenizer(writer: Any, vocab: int) -> None:
    """A SentencePiece vocabulary: specials, bytes, printable characters, and unused pieces up to `vocab`."""
    if vocab < N_SPECIAL + N_BYTES:
        raise ValueError(f"a vocabulary of {vocab} has no room for every byte")
    pieces = [*PIECES, *(f"▁unused{i}" for i in range(vocab))][: vocab - N_SPECIAL - N_BYTES]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(N_BYTES)), *pieces]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * N_BYTES]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * (N_SPECIAL + N_BYTES) + [-float(i) for i in range(len(pieces))])
    writer.add_token_types([int(kind) for kind in (*types, *[TokenType.NORMAL] * len(pieces))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
