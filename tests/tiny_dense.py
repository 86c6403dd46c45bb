"""Tiny models of the architectures without experts, by the name of what each proves."""

from __future__ import annotations

from tests.tiny_parts import (
    FUSED,
    GEMMA,
    HEAD,
    HEADS,
    KV_HEADS,
    LAYER_NORM,
    LLAMA,
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
    feed_forward,
    norms,
)


def _unlike_layer(heads: int, kv_heads: int, ffn: int, *, fused: bool = False) -> Tensors:
    """A layer with its own heads and width; deci's may lack attention, or its keys, or what feeds forward."""
    made: Tensors = {}
    if heads:
        made |= norms("attn_norm")
        made["attn_output.weight"] = (WIDTH, heads * HEAD if kv_heads else WIDTH)
    if fused:
        made["attn_qkv.weight"] = ((heads + 2 * kv_heads) * HEAD, WIDTH)
        made |= {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
    elif kv_heads:
        rows = {"q": heads, "k": kv_heads, "v": kv_heads}
        made |= {f"attn_{part}.weight": (count * HEAD, WIDTH) for part, count in rows.items()}
    if ffn:
        made |= norms("ffn_norm")
        made |= {"ffn_gate.weight": (ffn, WIDTH), "ffn_up.weight": (ffn, WIDTH), "ffn_down.weight": (WIDTH, ffn)}
    return made


GEMMA4_KEYS = {
    **SLIDING,
    "attention.sliding_window_pattern": [True, True, False, True, True, False, True, True],
    "attention.head_count_kv": [2, 2, 1, 2, 2, 1, 2, 2],
    "attention.key_length": 2 * HEAD,
    "attention.value_length": 2 * HEAD,
    "attention.key_length_swa": HEAD,
    "attention.value_length_swa": HEAD,
    "rope.dimension_count": 2 * HEAD,
    "rope.dimension_count_swa": HEAD,
    "rope.freq_base_swa": 100.0,
    "embedding_length_per_layer_input": 0,
    "final_logit_softcapping": 30.0,
}


def gemma4_layer(*, slides: bool) -> Tensors:
    """A dense layer has fewer and wider heads, and values that are its keys."""
    made = {**GEMMA, **attention(*((HEAD, 2) if slides else (2 * HEAD, 1)), norms="qk")}
    if not slides:
        del made["attn_v.weight"]
    return {**made, **feed_forward(), "layer_output_scale.weight": (1,)}


DENSE: dict[str, Tiny] = {
    "llama": Tiny("llama", LLAMA, ends={"rope_freqs.weight": (HEAD // 2,)}),
    "mistral3": Tiny(
        "mistral3",
        LLAMA,
        {"attention.temperature_scale": 0.5, "rope.scaling.original_context_length": 8},
        tied=False,
    ),
    "qwen2": Tiny("qwen2", always(PRE, attention(bias="qkv"), feed_forward())),
    "qwen3": Tiny("qwen3", always(PRE, attention(16, norms="qk"), feed_forward()), {"attention.key_length": 16}),
    "gemma2": Tiny(
        "gemma2",
        always(GEMMA, attention(), feed_forward()),
        {**SLIDING, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        layers=5,
    ),
    "gemma3": Tiny("gemma3", always(GEMMA, attention(norms="qk"), feed_forward()), SLIDING, layers=7),
    "gemma3 of its own period": Tiny(
        "gemma3",
        always(GEMMA, attention(norms="qk"), feed_forward()),
        {**SLIDING, "attention.sliding_window_pattern": 3, "rope.freq_base_swa": 100.0},
        tied=False,
    ),
    "gemma3 without windows": Tiny("gemma3", always(GEMMA, attention(norms="qk"), feed_forward())),
    "gemma4": Tiny(
        "gemma4",
        lambda layer: gemma4_layer(slides=layer % 3 != 2),
        GEMMA4_KEYS,
        layers=8,
        ends={"rope_freqs.weight": (HEAD,)},
    ),
    "phi3": Tiny(
        "phi3",
        always(
            PRE,
            {"attn_qkv.weight": (WIDTH + 2 * KV_HEADS * HEAD, WIDTH), "attn_output.weight": (WIDTH, WIDTH)},
            feed_forward("Ud"),
        ),
        {"rope.scaling.original_context_length": 32},
        ends=ROPE_FACTORS,
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
            **SLIDING,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 8.0,
            "rope.scaling.original_context_length": 8,
        },
        layers=5,
        tied=False,
    ),
    "granite": Tiny(
        "granite",
        LLAMA,
        {"embedding_scale": 12.0, "logit_scale": 8.0, "residual_scale": 0.22, "attention.scale": 0.3},
    ),
    "smollm3": Tiny("smollm3", LLAMA, layers=13),
    "gemma": Tiny("gemma", LLAMA),
    "glm4": Tiny("glm4", always(GEMMA, attention(bias="qkv"), feed_forward("Ud"))),
    "glm4 of several positions": Tiny(
        "glm4", always(GEMMA, attention(), feed_forward("Ud")), {"rope.dimension_sections": [1, 2, 1, 0]}, tied=False
    ),
    "qwen2vl": Tiny(
        "qwen2vl", always(PRE, attention(bias="qkv"), feed_forward()), {"rope.dimension_sections": [1, 2, 1, 0]}
    ),
    "qwen3vl": Tiny(
        "qwen3vl",
        always(PRE, attention(norms="qk"), feed_forward()),
        {"rope.dimension_sections": [2, 1, 1, 0], "n_deepstack_layers": 2},
    ),
    "openelm": Tiny(
        "openelm",
        lambda layer: _unlike_layer((4, 2, 6, 4)[layer], (2, 1, 3, 2)[layer], (48, 32, 64, 16)[layer], fused=True),
        {
            "attention.head_count": [4, 2, 6, 4],
            "attention.head_count_kv": [2, 1, 3, 2],
            "feed_forward_length": [48, 32, 64, 16],
            "attention.key_length": None,
            "attention.value_length": None,
            "rope.dimension_count": None,
        },
    ),
    "deci": Tiny(
        "deci",
        lambda layer: _unlike_layer((4, 2, 0, 4, 8)[layer], (2, 1, 0, 0, 4)[layer], (48, 0, 64, 16, 48)[layer]),
        {
            "attention.head_count": [4, 2, 0, 4, 8],
            "attention.head_count_kv": [2, 1, 0, 0, 4],
            "feed_forward_length": [48, 0, 64, 16, 48],
            "attention.key_length": None,
            "attention.value_length": None,
            "rope.dimension_count": None,
        },
        layers=5,
        tied=False,
    ),
    "cohere2": Tiny(
        "cohere2",
        always(norms("attn_norm"), attention(), feed_forward()),
        {**SLIDING, **LAYER_NORM, "logit_scale": 0.5},
        layers=5,
    ),
    "chatglm": Tiny("chatglm", always(PRE, attention(bias="qkv"), feed_forward("Ud"))),
    "command-r": Tiny(
        "command-r", always(norms("attn_norm"), attention(), feed_forward()), {**LAYER_NORM, "logit_scale": 0.5}
    ),
    "exaone": Tiny("exaone", LLAMA, tied=False),
    "exaone4": Tiny(
        "exaone4",
        always(norms("post_attention_norm", "post_ffw_norm"), attention(norms="qk"), feed_forward()),
    ),
    "starcoder2": Tiny(
        "starcoder2",
        always(PRE_BIASED, attention(bias="qkvo"), feed_forward("ud", bias=True)),
        LAYER_NORM,
        ends=norms("output_norm", bias=True),
    ),
    "stablelm": Tiny(
        "stablelm",
        always(PRE_BIASED, attention(bias="qkv"), feed_forward()),
        {**LAYER_NORM, "rope.dimension_count": HEAD // 2},
        tied=False,
        ends=norms("output_norm", bias=True),
    ),
    "phi2": Tiny(
        "phi2",
        always(norms("attn_norm", bias=True), attention(kv_heads=HEADS, bias="qkvo"), feed_forward("ud", bias=True)),
        {**LAYER_NORM, "attention.head_count_kv": HEADS, "rope.dimension_count": HEAD // 2},
        tied=False,
        ends={**norms("output_norm", bias=True), "output.bias": (VOCAB,)},
    ),
    "minicpm": Tiny("minicpm", LLAMA),
    "minicpm with scales": Tiny(
        "minicpm", LLAMA, {"embedding_scale": 3.0, "residual_scale": 0.3, "logit_scale": 2.0}, tied=False
    ),
    "ernie4_5": Tiny("ernie4_5", LLAMA),
    "hunyuan-dense": Tiny("hunyuan-dense", always(PRE, attention(norms="qk"), feed_forward())),
    "seed_oss": Tiny(
        "seed_oss",
        always(norms("attn_norm", "post_attention_norm"), attention(bias="qkv"), feed_forward()),
        tied=False,
    ),
    "internlm2": Tiny("internlm2", LLAMA, tied=False),
    "xverse": Tiny("xverse", LLAMA, tied=False),
    "orion": Tiny(
        "orion",
        always(PRE_BIASED, attention(), feed_forward()),
        LAYER_NORM,
        tied=False,
        ends=norms("output_norm", bias=True),
    ),
    "arcee": Tiny("arcee", always(PRE, attention(), feed_forward("ud")), tied=False),
    "nemotron": Tiny(
        "nemotron",
        always(PRE_BIASED, attention(), feed_forward("ud")),
        LAYER_NORM,
        tied=False,
        ends=norms("output_norm", bias=True),
    ),
    "falcon": Tiny(
        "falcon",
        always(norms("attn_norm", bias=True), FUSED, feed_forward("ud")),
        LAYER_NORM,
        ends=norms("output_norm", bias=True),
    ),
    "gptneox": Tiny(
        "gptneox",
        always(
            PRE_BIASED,
            FUSED,
            {"attn_qkv.bias": (WIDTH + 2 * KV_HEADS * HEAD,), "attn_output.bias": (WIDTH,)},
            feed_forward("ud", bias=True),
        ),
        {**LAYER_NORM, "use_parallel_residual": True, "rope.dimension_count": HEAD // 2},
        tied=False,
        ends=norms("output_norm", bias=True),
    ),
    "apertus": Tiny(
        "apertus",
        always(PRE, attention(norms="qk"), feed_forward("ud")),
        {
            "xielu.alpha_n": [0.5, 1.5, 0.7, 2.0],
            "xielu.alpha_p": [0.8, 0.3, 1.9, 1.1],
            "xielu.beta": [0.5, 0.6, 0.4, 0.9],
            "xielu.eps": [-1e-6, -2e-6, -3e-6, -4e-6],
        },
        tied=False,
    ),
}
