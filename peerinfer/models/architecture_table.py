"""The rows of the table of architectures, each proven by a tiny model in `tests/engine/test_architectures.py`.

The source of a row is the file of its name under `src/models/` of llama.cpp: its hyper-parameters, its tensors, and
what its graph computes from a layer's number or from how many layers there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from peerinfer.errors import CorruptModel
from peerinfer.models.architecture_rules import (
    PATTERN_KEY,
    PER_LAYER_KEYS,
    WINDOW_KEY,
    Architecture,
    Entry,
    SlidingWindow,
    number,
    window_is_set,
)
from peerinfer.models.gguf import GgufHeader, ValueType
from peerinfer.models.gguf_cursor import StringArray

_NO_ROPE_STEP = 4
"""Every fourth layer of smollm3 and llama4 does not rotate by position (`n_no_rope_layer_step`)."""
_WINDOW_NOTE = "the pattern of sliding windows is written out for the layers of the shard"
_WINDOW_CUTS = "where each stage keeps a sliding layer"
_EXPERTS_NOTE = "mixture of experts"
_DENSE_NOTE = "the number of first layers without experts is that of the shard"
_SCALE_NOTE = "the embedding scale is applied by the first stage and taken out of the shards"
_INPUT_NOTE = "hidden states enter behind the graph's own embedding factor"
_TOKENS_NOTE = "stages are fed as if with tokens, for llama.cpp takes no hidden states"
_UNLIKE_NOTE = "the heads and widths, which differ by layer, are those of the layers of the shard"
_GATING_SOFTMAX = 1
_GATING_SIGMOID = 2
"""`llama_expert_gating_func_type` in llama-hparams.h."""
_XIELU_KEYS = ("xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps")


def _root_of_width(header: GgufHeader) -> float:
    return math.sqrt(number(header, "embedding_length"))


def _embedding_scale(header: GgufHeader) -> float:
    value = header.metadata.get(f"{header.text('general.architecture')}.embedding_scale", 0.0)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CorruptModel(f"{header.name} is damaged: its embedding scale is no number. Fetch or convert it again.")
    return float(np.float32(value)) or 1.0


def _neutral_embedding_scale(_header: GgufHeader, _n_layers: int) -> Mapping[str, Entry]:
    """llama.cpp multiplies any input by the scale (`build_inp_embd`), which only looked-up embeddings should be."""
    return {"embedding_scale": (1.0, ValueType.FLOAT32, None)}


def _inferred_scale(n_layers: int, family: str) -> Callable[[GgufHeader, int], str]:
    """A refusal: llama.cpp takes another attention scale for a model of exactly `n_layers`, which no shard can say."""

    def refusal(header: GgufHeader, n_in_model: int) -> str:
        heads = max(1, number(header, "attention.head_count"))
        width = number(header, "embedding_length") // heads
        if n_in_model < n_layers or number(header, "attention.key_length", width) == width:
            return ""
        return f"llama.cpp infers the attention scale of {family} from its {n_layers} layers, which a shard has not"

    return refusal


def _vocabulary(header: GgufHeader) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return number(header, "vocab_size", len(tokens) if isinstance(tokens, StringArray) else 0)


def _lite_layers(header: GgufHeader) -> tuple[int, ...]:
    """Numbers of layers by which llama.cpp tells models without compressed queries; it would tell a shard so too."""
    return (26, 27, 48) if _vocabulary(header) == 128_256 else (26, 27)


def _deepseek_keys(header: GgufHeader, n_layers: int) -> Mapping[str, Entry]:
    """What llama.cpp infers from 26, 27, 47 or 48 layers and the vocabulary, said outright."""
    keys: dict[str, Entry] = {}
    if n_layers in _lite_layers(header):
        keys["attention.q_lora_rank"] = (0, ValueType.UINT32, None)
    if not number(header, "expert_gating_func", 0):
        sigmoid = n_layers in (47, 48) and _vocabulary(header) == 154_880
        keys["expert_gating_func"] = (_GATING_SIGMOID if sigmoid else _GATING_SOFTMAX, ValueType.UINT32, None)
    return keys


def _deepseek_step(header: GgufHeader, n_layers: int) -> int:
    """A step that gives no stage a number of layers by which llama.cpp would take it for another model."""
    lite = _lite_layers(header)
    if n_layers in lite or n_layers < min(lite):
        return 1
    steps = range(2, n_layers)
    return next((s for s in steps if all(n % s and (n_layers - n) % s for n in lite if n < n_layers)), n_layers)


def _minicpm_keys(header: GgufHeader, n_layers: int) -> Mapping[str, Entry]:
    """The scales that llama.cpp has for older files, one of them from the number of layers."""
    keys = dict(_neutral_embedding_scale(header, n_layers))
    if f"{header.text('general.architecture')}.residual_scale" not in header.metadata:
        scale = np.float32(1.4) / np.sqrt(np.float32(n_layers))
        keys["residual_scale"] = (float(scale), ValueType.FLOAT32, None)
    return keys


def _minicpm_embedding_scale(header: GgufHeader) -> float:
    given = f"{header.text('general.architecture')}.embedding_scale" in header.metadata
    return _embedding_scale(header) if given else 12.0


def _no_window(header: GgufHeader, _n_layers: int) -> str:
    """llama.cpp then makes the layer without rotation the one that is first, or last, of all."""
    return "" if window_is_set(header) else "without sliding windows its rotation depends on the number of its layers"


def _window_is_zero(header: GgufHeader, _n_layers: int) -> str:
    return _no_window(header, 0) if number(header, WINDOW_KEY, 1) == 0 else ""


def _from_layers(n_layers: int, what: str) -> Callable[[GgufHeader, int], str]:
    def refusal(_header: GgufHeader, n_in_model: int) -> str:
        return f"llama.cpp infers {what} from its {n_layers} layers or more" if n_in_model >= n_layers else ""

    return refusal


def _own_embeddings(header: GgufHeader, _n_layers: int) -> str:
    if number(header, "embedding_length_per_layer_input", 0) or number(header, "attention.shared_kv_layers", 0):
        return "its layers share keys and values, or have embeddings of their own"
    return ""


def _experts_step(header: GgufHeader, _n_layers: int) -> int:
    return max(1, number(header, "interleave_moe_layer_step", 1))


def _llama4_step(header: GgufHeader, n_layers: int) -> int:
    return math.lcm(_NO_ROPE_STEP, _experts_step(header, n_layers))


def _smallthinker_step(_header: GgufHeader, n_layers: int) -> int:
    """llama.cpp rotates all layers of a model of `_NO_ROPE_STEP` layers, so no stage may have that many."""
    steps = range(2 * _NO_ROPE_STEP, n_layers, _NO_ROPE_STEP)
    return next((step for step in steps if (n_layers - _NO_ROPE_STEP) % step), n_layers)


def _no_pictures(_header: GgufHeader, _n_layers: int) -> Mapping[str, Entry]:
    """Without pictures nothing is added to the first layers, and inputs are no wider than hidden states."""
    return {"n_deepstack_layers": (0, ValueType.UINT32, None)}


def _every(step: int) -> Callable[[GgufHeader, int], int]:
    return lambda _header, _n_layers: step


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
        embedding_factor=_root_of_width,
        input_tensor="inp_scaled",
        refusal=_inferred_scale(46, "Gemma 2 27B"),
    ),
    Architecture(
        "gemma3",
        _WINDOW_NOTE,
        cuts=_WINDOW_CUTS,
        sliding=SlidingWindow(6, active=window_is_set),
        embedding_factor=_root_of_width,
        refusal=_inferred_scale(62, "Gemma 3 27B"),
    ),
    Architecture(
        "gemma4",
        f"{_WINDOW_NOTE}; not the small models, which have embeddings for each layer",
        cuts="at multiples of 2, " + _WINDOW_CUTS,
        sliding=SlidingWindow(6),
        cut_step=_every(2),
        required_keys=("attention.head_count", WINDOW_KEY, PATTERN_KEY),
        only_for_dense=True,
        embedding_factor=_root_of_width,
        refusal=_own_embeddings,
    ),
    Architecture("phi3"),
    Architecture(
        "olmo2", _WINDOW_NOTE, _WINDOW_CUTS, sliding=SlidingWindow(4, active=window_is_set), head_required=True
    ),
    Architecture(
        "granite",
        _SCALE_NOTE,
        embedding_factor=_embedding_scale,
        rewritten=_neutral_embedding_scale,
    ),
    Architecture(
        "smollm3",
        "every fourth layer does not rotate by position",
        cuts=f"at multiples of {_NO_ROPE_STEP}",
        cut_step=_every(_NO_ROPE_STEP),
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
    Architecture("gemma", _INPUT_NOTE, embedding_factor=_root_of_width, input_tensor="inp_scaled"),
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
        rewritten=_no_pictures,
    ),
    Architecture(
        "qwen3vlmoe",
        f"text only; {_EXPERTS_NOTE}; {_TOKENS_NOTE}",
        input_tensor="embd",
        fed_as_tokens=True,
        rewritten=_no_pictures,
    ),
    Architecture("openelm", _UNLIKE_NOTE),
    Architecture("deci", _UNLIKE_NOTE, cuts="before a layer with keys and behind one that feeds forward"),
    Architecture("deepseek", f"{_EXPERTS_NOTE}; {_DENSE_NOTE}"),
    Architecture(
        "deepseek2",
        f"{_EXPERTS_NOTE}; {_DENSE_NOTE}; what llama.cpp infers from the number of layers is written out",
        cuts="such that no stage has 26 or 27 layers, unless the model has",
        cut_step=_deepseek_step,
        rewritten=_deepseek_keys,
    ),
    Architecture("dots1", f"{_EXPERTS_NOTE}; {_DENSE_NOTE}", head_required=True),
    Architecture("bailingmoe", _EXPERTS_NOTE, head_required=True),
    Architecture(
        "cohere2",
        _WINDOW_NOTE,
        _WINDOW_CUTS,
        sliding=SlidingWindow(4),
        required_keys=("attention.head_count", WINDOW_KEY),
    ),
    Architecture("command-r", refusal=_from_layers(64, "norms of queries and keys")),
    Architecture("exaone"),
    Architecture("exaone4", refusal=_from_layers(64, "sliding windows")),
    Architecture(
        "llama4",
        f"{_EXPERTS_NOTE}; every fourth layer does not rotate by position; {_WINDOW_NOTE}",
        cuts=f"at multiples of {_NO_ROPE_STEP} and of the step of its experts",
        sliding=SlidingWindow(4),
        cut_step=_llama4_step,
        refusal=_window_is_zero,
    ),
    Architecture(
        "smallthinker",
        f"{_EXPERTS_NOTE}; every fourth layer does not rotate by position; {_WINDOW_NOTE}",
        cuts=f"at multiples of {_NO_ROPE_STEP}, such that no stage has {_NO_ROPE_STEP} layers",
        sliding=SlidingWindow(4, dense_first=True, active=window_is_set),
        cut_step=_smallthinker_step,
        refusal=_no_window,
    ),
    Architecture("starcoder2"),
    Architecture("stablelm", head_required=True),
    Architecture("phi2", head_required=True),
    Architecture("phimoe", _EXPERTS_NOTE, head_required=True),
    Architecture(
        "granitemoe",
        f"{_EXPERTS_NOTE}; {_SCALE_NOTE}",
        embedding_factor=_embedding_scale,
        rewritten=_neutral_embedding_scale,
    ),
    Architecture(
        "minicpm",
        f"{_SCALE_NOTE}; a residual scale inferred from the number of layers is written out",
        embedding_factor=_minicpm_embedding_scale,
        rewritten=_minicpm_keys,
    ),
    Architecture("ernie4_5"),
    Architecture(
        "ernie4_5-moe",
        f"{_EXPERTS_NOTE}; {_DENSE_NOTE}",
        cuts="at multiples of the step of its experts, which is 1 in known models",
        cut_step=_experts_step,
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
