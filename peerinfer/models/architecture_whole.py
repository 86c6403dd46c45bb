"""Architectures that always run whole on one node, and why, so that the answer to a wish to split them is clear.

Source of the families: `llm_arch_is_recurrent`, `llm_arch_is_hybrid` and `llm_arch_is_diffusion` in llama.cpp's
`src/llama-arch.cpp`; of single rows the file of their name under `src/models/`.
"""

from __future__ import annotations

from peerinfer.models.architecture_rules import Architecture

_REASONS = {
    "its layers keep a recurrent state, from which a suffix cannot be taken back": (
        "mamba",
        "mamba2",
        "rwkv6",
        "rwkv6qwen2",
        "rwkv7",
        "arwkv7",
    ),
    "some of its layers keep a recurrent state, from which a suffix cannot be taken back": (
        "bailingmoe3",
        "deepseek4",
        "falcon-h1",
        "glm5-next",
        "granitehybrid",
        "jamba",
        "kimi-k3",
        "kimi-linear",
        "lfm2",
        "lfm2moe",
        "minimax-01",
        "nemotron_h",
        "nemotron_h_moe",
        "plamo2",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "qwen4exp",
    ),
    "it is or has an encoder, which writes no answer token by token": (
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5",
        "t5encoder",
    ),
    "it writes by diffusion, many tokens at once": ("dream", "llada", "llada-moe", "rnd1"),
    "it adds learned positions or a norm to its embeddings, which a later stage would do again": (
        "bloom",
        "gpt2",
        "starcoder",
    ),
    "its layers share keys and values, and have embeddings of their own": ("gemma3n",),
    "llama.cpp infers how it treats positions from the number of its layers": ("baichuan",),
    "llama.cpp infers the scale of its residuals from the number of its layers": ("minicpm3",),
}

WHOLE_ROWS = tuple(
    Architecture(name, cuts="never", whole_only=reason) for reason, names in _REASONS.items() for name in names
)
