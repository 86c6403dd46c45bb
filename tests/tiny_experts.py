"""Tiny models that are mixtures of experts, by the name of what each proves."""

from __future__ import annotations

from tests.tiny_dense import GEMMA4_KEYS, gemma4_layer
from tests.tiny_parts import (
    EXPERT_FFN,
    EXPERTS,
    FFN,
    FUSED,
    HEAD,
    HEADS,
    KV_HEADS,
    LAYER_NORM,
    PRE,
    PRE_BIASED,
    ROPE_FACTORS,
    SLIDING,
    VOCAB,
    WIDTH,
    Tensors,
    Tiny,
    always,
    attention,
    experts,
    feed_forward,
    norms,
)

EXPERT_KEYS = {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": EXPERT_FFN}
_DENSE_KEYS = {
    **EXPERT_KEYS,
    "leading_dense_block_count": 2,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.5,
}
_GUESSING: Tensors = {
    "nextn.eh_proj.weight": (WIDTH, 2 * WIDTH),
    "nextn.enorm.weight": (WIDTH,),
    "nextn.hnorm.weight": (WIDTH,),
}
_LATENT_KEYS = {
    "attention.kv_lora_rank": 16,
    "attention.key_length": 20,
    "attention.value_length": 16,
    "attention.key_length_mla": 12,
    "attention.value_length_mla": 8,
    "attention.head_count_kv": 1,
    "rope.dimension_count": 4,
}
"""DeepSeek's compressed keys and values: 16 numbers and 4 rotated ones, from which each head makes 8 + 4 and 8."""


def _dense_then_experts(layer: int, *biases: str) -> Tensors:
    """Two layers without experts, then layers with them."""
    if layer < 2:
        return feed_forward()
    return {**experts(shared=EXPERT_FFN), **dict.fromkeys(biases, (EXPERTS,))}


def _latent_attention(*, lora: bool, split: bool) -> Tensors:
    """DeepSeek's attention; with `lora` queries are compressed, with `split` the way back is two tensors."""
    queries: Tensors = {"attn_q.weight": (HEADS * 12, WIDTH)}
    if lora:
        queries = {
            "attn_q_a.weight": (16, WIDTH),
            "attn_q_a_norm.weight": (16,),
            "attn_q_b.weight": (HEADS * 12, 16),
        }
    back: Tensors = {"attn_kv_b.weight": (HEADS * 16, 16)}
    if split:
        back = {"attn_k_b.weight": (HEADS, 16, 8), "attn_v_b.weight": (HEADS, 8, 16)}
    return {
        **PRE,
        **queries,
        **back,
        "attn_kv_a_mqa.weight": (20, WIDTH),
        "attn_kv_a_norm.weight": (16,),
        "attn_output.weight": (WIDTH, HEADS * 8),
    }


def _gemma4_mixture(layer: int) -> Tensors:
    """Experts beside what feeds forward, each with norms of their own; gate and up of an expert in one tensor."""
    return {
        **gemma4_layer(slides=layer % 3 != 2),
        **norms("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"),
        "ffn_gate_inp.weight": (EXPERTS, WIDTH),
        "ffn_gate_inp.scale": (WIDTH,),
        "ffn_gate_up_exps.weight": (EXPERTS, 2 * EXPERT_FFN, WIDTH),
        "ffn_down_exps.weight": (EXPERTS, WIDTH, EXPERT_FFN),
        "ffn_down_exps.scale": (EXPERTS,),
    }


MIXTURES: dict[str, Tiny] = {
    "gemma4 of experts": Tiny(
        "gemma4", _gemma4_mixture, {**GEMMA4_KEYS, **EXPERT_KEYS}, layers=8, ends={"rope_freqs.weight": (HEAD,)}
    ),
    "llama of experts": Tiny(
        "llama", always(PRE, attention(), experts(FFN)), {"expert_count": EXPERTS, "expert_used_count": 2}, tied=False
    ),
    "qwen3moe": Tiny("qwen3moe", always(PRE, attention(norms="qk"), experts()), EXPERT_KEYS, tied=False),
    "gpt-oss": Tiny(
        "gpt-oss",
        always(
            norms("attn_norm", "post_attention_norm"),
            attention(bias="qkvo"),
            {"attn_sinks.weight": (HEADS,), "ffn_gate_inp.bias": (EXPERTS,)},
            experts(bias=True),
        ),
        {**SLIDING, **EXPERT_KEYS},
        layers=5,
        tied=False,
    ),
    "qwen2moe": Tiny(
        "qwen2moe",
        always(PRE, attention(bias="qkv"), experts(shared=FFN), {"ffn_gate_inp_shexp.weight": (WIDTH,)}),
        {**EXPERT_KEYS, "expert_shared_feed_forward_length": FFN},
        tied=False,
    ),
    "qwen3vlmoe": Tiny(
        "qwen3vlmoe",
        always(PRE, attention(norms="qk"), experts()),
        {**EXPERT_KEYS, "rope.dimension_sections": [2, 1, 1, 0], "n_deepstack_layers": 2},
        tied=False,
    ),
    "glm4moe": Tiny(
        "glm4moe",
        lambda layer: {
            **norms("attn_norm", "post_attention_norm"),
            **attention(bias="qkv", norms="qk"),
            **_dense_then_experts(layer, "exp_probs_b.bias"),
            **(_GUESSING if layer == 4 else {}),
        },
        {**_DENSE_KEYS, "nextn_predict_layers": 1},
        layers=5,
    ),
    "deepseek": Tiny(
        "deepseek", lambda layer: {**PRE, **attention(), **_dense_then_experts(layer)}, _DENSE_KEYS, tied=False
    ),
    "deepseek2": Tiny(
        "deepseek2",
        lambda layer: {**_latent_attention(lora=True, split=True), **_dense_then_experts(layer, "exp_probs_b.bias")},
        {**_LATENT_KEYS, **_DENSE_KEYS, "attention.q_lora_rank": 16, "expert_gating_func": 2},
        tied=False,
    ),
    "deepseek2 lite, as first converted": Tiny(
        "deepseek2",
        lambda layer: {**_latent_attention(lora=False, split=False), **_dense_then_experts(layer)},
        {
            **_DENSE_KEYS,
            "attention.kv_lora_rank": 16,
            "attention.key_length": 12,
            "attention.value_length": 8,
            "attention.head_count_kv": HEADS,
            "rope.dimension_count": 4,
        },
        layers=27,
        tied=False,
    ),
    "mistral4": Tiny(
        "mistral4",
        lambda layer: {**_latent_attention(lora=True, split=True), **_dense_then_experts(layer)},
        {
            **_LATENT_KEYS,
            **_DENSE_KEYS,
            "attention.q_lora_rank": 16,
            "attention.temperature_scale": 0.5,
            "attention.temperature_length": 8,
        },
    ),
    "bailingmoe2": Tiny(
        "bailingmoe2",
        lambda layer: {
            **PRE,
            **FUSED,
            "attn_q_norm.weight": (HEAD,),
            "attn_k_norm.weight": (HEAD,),
            **_dense_then_experts(layer, "exp_probs_b.bias"),
            **({**_GUESSING, "layer_output_norm.weight": (WIDTH,)} if layer == 4 else {}),
        },
        {**_DENSE_KEYS, "expert_gating_func": 2, "nextn_predict_layers": 1},
        layers=5,
        tied=False,
    ),
    "dbrx": Tiny(
        "dbrx",
        always(norms("attn_norm", "attn_output_norm"), FUSED, experts(FFN)),
        {**LAYER_NORM, "expert_count": EXPERTS, "expert_used_count": 2, "attention.clamp_kqv": 1.5},
        tied=False,
    ),
    "exaone-moe": Tiny(
        "exaone-moe",
        lambda layer: {**PRE, **attention(norms="qk"), **_dense_then_experts(layer, "exp_probs_b.bias")},
        {**SLIDING, **_DENSE_KEYS, "expert_gating_func": 2},
        layers=6,
        tied=False,
    ),
    "dots1": Tiny(
        "dots1",
        lambda layer: {
            **PRE,
            **attention(kv_heads=HEADS, norms="qk"),
            **_dense_then_experts(layer, "exp_probs_b.bias"),
        },
        {**_DENSE_KEYS, "attention.head_count_kv": HEADS, "expert_gating_func": 2},
        tied=False,
    ),
    "bailingmoe": Tiny(
        "bailingmoe",
        always(PRE, attention(), experts(shared=EXPERT_FFN)),
        {**EXPERT_KEYS, "expert_shared_count": 1},
        tied=False,
    ),
    "llama4": Tiny(
        "llama4",
        lambda layer: {**PRE, **attention(), **(experts(shared=EXPERT_FFN) if layer % 2 else feed_forward())},
        {**EXPERT_KEYS, "interleave_moe_layer_step": 2},
        layers=12,
        tied=False,
    ),
    "smallthinker": Tiny(
        "smallthinker",
        always(PRE, attention(), experts()),
        {**SLIDING, **EXPERT_KEYS, "expert_gating_func": 2},
        layers=24,
    ),
    "phimoe": Tiny(
        "phimoe",
        always(PRE_BIASED, attention(bias="qkvo"), experts(FFN)),
        {"expert_count": EXPERTS, "expert_used_count": 2, "rope.scaling.original_context_length": 32},
        tied=False,
        ends={**norms("output_norm", bias=True), **ROPE_FACTORS, "output.bias": (VOCAB,)},
    ),
    "granitemoe": Tiny(
        "granitemoe",
        always(PRE, attention(), experts(FFN, shared=FFN)),
        {
            "expert_count": EXPERTS,
            "expert_used_count": 2,
            "expert_shared_feed_forward_length": FFN,
            "embedding_scale": 12.0,
            "logit_scale": 6.0,
            "residual_scale": 0.22,
            "attention.scale": 0.3,
        },
    ),
    "ernie4_5-moe": Tiny(
        "ernie4_5-moe",
        lambda layer: {**PRE, **attention(), **_dense_then_experts(layer, "exp_probs_b.bias")},
        {**_DENSE_KEYS, "interleave_moe_layer_step": 1, "expert_shared_feed_forward_length": EXPERT_FFN},
    ),
    "hunyuan-moe": Tiny(
        "hunyuan-moe",
        always(PRE, attention(norms="qk"), experts(FFN, shared=FFN)),
        {**EXPERT_KEYS, "expert_shared_feed_forward_length": FFN},
    ),
    "olmoe": Tiny(
        "olmoe",
        always(PRE, norms("attn_q_norm", "attn_k_norm"), attention(kv_heads=HEADS), experts(FFN)),
        {"expert_count": EXPERTS, "expert_used_count": 2, "attention.head_count_kv": HEADS},
        tied=False,
    ),
    "minimax-m2": Tiny(
        "minimax-m2",
        always(
            PRE,
            norms("attn_q_norm"),
            {"attn_k_norm.weight": (KV_HEADS * HEAD,), "exp_probs_b.bias": (EXPERTS,)},
            attention(),
            experts(FFN),
        ),
        {**EXPERT_KEYS, "expert_feed_forward_length": FFN, "expert_gating_func": 2},
        tied=False,
    ),
}
