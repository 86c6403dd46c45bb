"""The rows of the table of architectures, each proven by a tiny model in `tests/engine/test_architectures.py`.

The source of a row is the file of its name under `src/models/` of llama.cpp: its hyper-parameters, its tensors, and
what its graph computes from a layer's number or from how many layers there are.
"""

from __future__ import annotations

from dataclasses import replace

from peerinfer.models.architecture_quirks import (
    NO_ROPE_STEP,
    deepseek_keys,
    deepseek_step,
    embedding_scale,
    every,
    experts_step,
    from_layers,
    inferred_scale,
    llama4_step,
    minicpm_embedding_scale,
    minicpm_keys,
    neutral_embedding_scale,
    no_pictures,
    no_window,
    own_embeddings,
    root_of_width,
    smallthinker_step,
    window_is_zero,
)
from peerinfer.models.architecture_rules import (
    PATTERN_KEY,
    PER_LAYER_KEYS,
    WINDOW_KEY,
    Architecture,
    SlidingWindow,
    window_is_set,
)

_WINDOW_NOTE = "the pattern of sliding windows is written out for the layers of the shard"
_WINDOW_CUTS = "where each stage keeps a sliding layer"
_EXPERTS_NOTE = "mixture of experts"
_DENSE_NOTE = "the number of first layers without experts is that of the shard"
_SCALE_NOTE = "the embedding scale is applied by the first stage and taken out of the shards"
_INPUT_NOTE = "hidden states enter behind the graph's own embedding factor"
_TOKENS_NOTE = "stages are fed as if with tokens, for llama.cpp takes no hidden states"
_UNLIKE_NOTE = "the heads and widths, which differ by layer, are those of the layers of the shard"
_XIELU_KEYS = ("xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps")

_DEEPSEEK2 = Architecture(
    "deepseek2",
    f"{_EXPERTS_NOTE}; {_DENSE_NOTE}; what llama.cpp infers from the number of layers is written out",
    cuts="such that no stage has 26 or 27 layers, unless the model has",
    cut_step=deepseek_step,
    rewritten=deepseek_keys,
)

ROWS = (
    Architecture("llama", "also most models derived from Llama, with or without experts"),
    Architecture("mistral3"),
    Architecture("qwen2"),
    Architecture("qwen3"),
    Architecture("qwen3moe", _EXPERTS_NOTE),
    Architecture(
        "gemma2",
        f"{_WINDOW_NOTE}; {_INPUT_NOTE}",
        cuts=_WINDOW_CUTS,
        sliding=SlidingWindow(2),
        embedding_factor=root_of_width,
        input_tensor="inp_scaled",
        refusal=inferred_scale(46, "Gemma 2 27B"),
    ),
    Architecture(
        "gemma3",
        _WINDOW_NOTE,
        cuts=_WINDOW_CUTS,
        sliding=SlidingWindow(6, active=window_is_set),
        embedding_factor=root_of_width,
        refusal=inferred_scale(62, "Gemma 3 27B"),
    ),
    Architecture(
        "gemma4",
        f"{_WINDOW_NOTE}; not the small models, which have embeddings for each layer",
        cuts="at multiples of 2, " + _WINDOW_CUTS,
        sliding=SlidingWindow(6),
        cut_step=every(2),
        required_keys=("attention.head_count", WINDOW_KEY, PATTERN_KEY),
        only_for_dense=True,
        embedding_factor=root_of_width,
        refusal=own_embeddings,
    ),
    Architecture("phi3"),
    Architecture(
        "olmo2", _WINDOW_NOTE, _WINDOW_CUTS, sliding=SlidingWindow(4, active=window_is_set), head_required=True
    ),
    Architecture(
        "granite",
        _SCALE_NOTE,
        embedding_factor=embedding_scale,
        rewritten=neutral_embedding_scale,
    ),
    Architecture(
        "smollm3",
        "every fourth layer does not rotate by position",
        cuts=f"at multiples of {NO_ROPE_STEP}",
        cut_step=every(NO_ROPE_STEP),
    ),
    Architecture(
        "gpt-oss",
        f"{_EXPERTS_NOTE}; {_WINDOW_NOTE}",
        cuts=_WINDOW_CUTS,
        sliding=SlidingWindow(2),
        required_keys=("attention.head_count", WINDOW_KEY),
        head_required=True,
    ),
    Architecture("qwen2moe", _EXPERTS_NOTE, head_required=True),
    Architecture("gemma", _INPUT_NOTE, embedding_factor=root_of_width, input_tensor="inp_scaled"),
    Architecture("glm4", _TOKENS_NOTE, input_tensor="embd", fed_as_tokens=True),
    Architecture(
        "glm4moe",
        f"{_EXPERTS_NOTE}; {_DENSE_NOTE}; the layers that guess further tokens are left out; {_TOKENS_NOTE}",
        input_tensor="embd",
        fed_as_tokens=True,
    ),
    Architecture("qwen2vl", f"text only; {_TOKENS_NOTE}", input_tensor="embd", fed_as_tokens=True),
    Architecture(
        "qwen3vl",
        f"text only; {_TOKENS_NOTE}",
        input_tensor="embd",
        fed_as_tokens=True,
        rewritten=no_pictures,
    ),
    Architecture(
        "qwen3vlmoe",
        f"text only; {_EXPERTS_NOTE}; {_TOKENS_NOTE}",
        input_tensor="embd",
        fed_as_tokens=True,
        rewritten=no_pictures,
    ),
    Architecture("openelm", _UNLIKE_NOTE),
    Architecture("deci", _UNLIKE_NOTE, cuts="before a layer with keys and behind one that feeds forward"),
    Architecture("deepseek", f"{_EXPERTS_NOTE}; {_DENSE_NOTE}"),
    Architecture("bailingmoe2", f"{_EXPERTS_NOTE}; {_DENSE_NOTE}", head_required=True),
    Architecture("dbrx", _EXPERTS_NOTE, head_required=True),
    Architecture("chatglm"),
    Architecture(
        "exaone-moe",
        f"{_EXPERTS_NOTE}; {_DENSE_NOTE}; {_WINDOW_NOTE}",
        cuts=_WINDOW_CUTS,
        sliding=SlidingWindow(4),
        required_keys=("attention.head_count", WINDOW_KEY),
        head_required=True,
    ),
    _DEEPSEEK2,
    replace(_DEEPSEEK2, name="mistral4"),
    Architecture("dots1", f"{_EXPERTS_NOTE}; {_DENSE_NOTE}", head_required=True),
    Architecture("bailingmoe", _EXPERTS_NOTE, head_required=True),
    Architecture(
        "cohere2",
        _WINDOW_NOTE,
        _WINDOW_CUTS,
        sliding=SlidingWindow(4),
        required_keys=("attention.head_count", WINDOW_KEY),
    ),
    Architecture("command-r", refusal=from_layers(64, "norms of queries and keys")),
    Architecture("exaone"),
    Architecture("exaone4", refusal=from_layers(64, "sliding windows")),
    Architecture(
        "llama4",
        f"{_EXPERTS_NOTE}; every fourth layer does not rotate by position; {_WINDOW_NOTE}",
        cuts=f"at multiples of {NO_ROPE_STEP} and of the step of its experts",
        sliding=SlidingWindow(4),
        cut_step=llama4_step,
        refusal=window_is_zero,
    ),
    Architecture(
        "smallthinker",
        f"{_EXPERTS_NOTE}; every fourth layer does not rotate by position; {_WINDOW_NOTE}",
        cuts=f"at multiples of {NO_ROPE_STEP}, such that no stage has {NO_ROPE_STEP} layers",
        sliding=SlidingWindow(4, dense_first=True, active=window_is_set),
        cut_step=smallthinker_step,
        refusal=no_window,
    ),
    Architecture("starcoder2"),
    Architecture("stablelm", head_required=True),
    Architecture("phi2", head_required=True),
    Architecture("phimoe", _EXPERTS_NOTE, head_required=True),
    Architecture(
        "granitemoe",
        f"{_EXPERTS_NOTE}; {_SCALE_NOTE}",
        embedding_factor=embedding_scale,
        rewritten=neutral_embedding_scale,
    ),
    Architecture(
        "minicpm",
        f"{_SCALE_NOTE}; a residual scale inferred from the number of layers is written out",
        embedding_factor=minicpm_embedding_scale,
        rewritten=minicpm_keys,
    ),
    Architecture("ernie4_5"),
    Architecture(
        "ernie4_5-moe",
        f"{_EXPERTS_NOTE}; {_DENSE_NOTE}",
        cuts="at multiples of the step of its experts, which is 1 in known models",
        cut_step=experts_step,
    ),
    Architecture("hunyuan-dense"),
    Architecture("hunyuan-moe", _EXPERTS_NOTE),
    Architecture("seed_oss"),
    Architecture("olmoe", _EXPERTS_NOTE, head_required=True),
    Architecture("internlm2", head_required=True),
    Architecture("xverse", head_required=True),
    Architecture("orion", head_required=True),
    Architecture("arcee"),
    Architecture("nemotron", head_required=True),
    Architecture("minimax-m2", _EXPERTS_NOTE, head_required=True),
    Architecture("falcon"),
    Architecture("gptneox", head_required=True),
    Architecture(
        "apertus",
        "the constants of its activation, one per layer, are those of the layers of the shard",
        per_layer_keys=(*PER_LAYER_KEYS, *_XIELU_KEYS),
        head_required=True,
    ),
)
