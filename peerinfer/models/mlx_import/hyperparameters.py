"""From `config.json` of a model to the keys of a GGUF header, for the architectures that MLX stages run. Pure.

Sources: the classes `ModelArgs` of `mlx_lm.models` for what each setting means and is by default; `load_hparams` of
llama.cpp's `src/models/` for the keys. `engine/mlx_families.py` reads the same keys back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from peerinfer.models.architecture_rules import PATTERN_KEY, WINDOW_KEY, Entry
from peerinfer.models.gguf import ValueType
from peerinfer.models.mlx_import.config import Settings, quoted, unsupported
from peerinfer.models.mlx_rules import MLX_RULES

ARCHITECTURES: Final[Mapping[str, str]] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
}
"""The architecture of llama.cpp for each `model_type`. SmolLM and SmolLM2 are of the type llama."""
LAYERS_MAX: Final = 512
"""LLAMA_MAX_LAYERS of llama.cpp."""
WIDTH_MAX: Final = 1 << 20
"""Numbers in a row of any tensor; the widest real models have fewer than 2^17."""
VOCABULARY_MAX: Final = 1 << 21
"""Tokens; the largest real vocabularies have about 2^18."""
_ROPE_BASES: Final = {"llama": 1e4, "qwen2": 1e6, "gemma2": 1e4, "gemma3": 1e6, "phi3": 1e4}
"""Where the configuration names none, as the classes of `mlx_lm` have it."""
_LARGE: Final = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, for which llama.cpp infers another scale of attention."""
_GEMMAS: Final = ("gemma2", "gemma3")
_GEMMA3_PERIOD: Final = 6
_WINDOWS: Final = {"gemma2": 4096, "gemma3": 512}


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What the configuration says of a model."""

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    inner_width: int
    vocabulary: int
    """Rows of the embedding table."""
    tied: bool | None
    """Whether the table is the head; None if nothing is said."""
    keys: Mapping[str, Entry] = field(repr=False)
    """Of the GGUF header, in full."""
    rope_factors: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """By which the angles of each pair are divided (`rope_freqs.weight`), shape (head size / 2,)."""

    @property
    def is_gemma(self) -> bool:
        """Whether norms multiply by 1 + weight, which in a GGUF file is added already."""
        return self.architecture in _GEMMAS

    @property
    def is_permuted(self) -> bool:
        """Whether the rows of Q and K stand otherwise in a GGUF file."""
        return MLX_RULES[self.architecture].pairs_are_neighbours


def hyperparameters(config: Settings) -> Hyperparameters:
    """What `config.json` says. Raises `UnsupportedModel` for what cannot be converted, `CorruptModel`."""
    kind = config.text("model_type")
    name = ARCHITECTURES.get(kind)
    if name is None:
        raise unsupported(f"models of the type {quoted(kind)} are not among {', '.join(ARCHITECTURES)}")
    _check_plain(config, name)
    layers, width = _bounded(config, "num_hidden_layers", LAYERS_MAX), _bounded(config, "hidden_size", WIDTH_MAX)
    heads = _bounded(config, "num_attention_heads", width)
    kv_heads = _bounded(config, "num_key_value_heads", heads, heads if name in ("llama", "phi3") else None)
    head_size = config.integer("head_dim", width // heads)
    inner = _bounded(config, "intermediate_size", WIDTH_MAX)
    if not 0 < head_size * heads <= WIDTH_MAX or head_size % 2 or heads % kv_heads:
        raise unsupported(f"it has {heads} heads of {head_size} numbers, and {kv_heads} for keys")
    if MLX_RULES[name].heads_fill_width and head_size * heads != width:
        raise unsupported("its heads have a size of their own")
    _check_layers(config, name, layers)
    told: dict[str, Entry] = {
        "block_count": _u32(layers),
        "context_length": _u32(config.integer("max_position_embeddings", 2048)),
        "embedding_length": _u32(width),
        "feed_forward_length": _u32(inner),
        "attention.head_count": _u32(heads),
        "attention.head_count_kv": _u32(kv_heads),
        "attention.key_length": _u32(head_size),
        "attention.value_length": _u32(head_size),
        "attention.layer_norm_rms_epsilon": _f32(config.real("rms_norm_eps")),
        "vocab_size": _u32(_bounded(config, "vocab_size", VOCABULARY_MAX)),
    }
    told |= _gemma_keys(config, name, layers, width // heads, head_size) if name in _GEMMAS else {}
    rope_keys, factors = _rope(config, name, head_size)
    return Hyperparameters(
        architecture=name,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        inner_width=inner,
        vocabulary=config.integer("vocab_size"),
        tied=config.flag("tie_word_embeddings", True) if "tie_word_embeddings" in config else None,
        keys={f"{name}.{key}": entry for key, entry in (told | rope_keys).items()},
        rope_factors=factors,
    )


def _check_plain(config: Settings, name: str) -> None:
    """Raises `UnsupportedModel` for settings that change what is computed, and that llama.cpp's graph does not have."""
    config.only("rope_traditional", False)
    activations = ("gelu_pytorch_tanh", "gelu") if name in _GEMMAS else ("silu",)
    config.only("hidden_act", *activations)
    config.only("hidden_activation", *activations)
    if name == "gemma2":
        config.only("attn_logit_softcapping", 50.0)
    if name == "gemma3":
        config.only("attn_logit_softcapping")
        config.only("final_logit_softcapping")
        config.only("use_bidirectional_attention", False)
    if name == "qwen2":
        config.only("use_sliding_window", False)
    config.only("partial_rotary_factor", 1, 1.0)


def _check_layers(config: Settings, name: str, layers: int) -> None:
    """Raises `UnsupportedModel` unless all layers are of the kinds that the architecture has."""
    kinds = config.items("layer_types")
    if not kinds:
        return
    sees_all = [kind == "full_attention" for kind in kinds]
    if len(kinds) != layers or any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
        raise unsupported("its 'layer_types' are not one known kind for each layer")
    period = {"gemma2": 2, "gemma3": _period(config)}.get(name, 1)
    if sees_all != [(layer + 1) % period == 0 for layer in range(layers)]:
        raise unsupported("its layers see all or a window in an order that its architecture does not have")


def _period(config: Settings) -> int:
    """Of so many layers of a gemma3 one sees everything; newer configurations name it by another key."""
    return config.integer("sliding_window_pattern", config.integer("_sliding_window_pattern", _GEMMA3_PERIOD))


def _gemma_keys(config: Settings, name: str, layers: int, share: int, head_size: int) -> dict[str, Entry]:
    """`share` is the width of the model divided by its heads."""
    expected = share if layers == _LARGE[name] else head_size
    if config.real("query_pre_attn_scalar", 144.0 if name == "gemma2" else 256.0) != expected:
        raise unsupported("its 'query_pre_attn_scalar' is not the one that llama.cpp infers")
    keys: dict[str, Entry] = {WINDOW_KEY: _u32(config.integer("sliding_window", _WINDOWS[name]))}
    if name == "gemma2":
        keys["attn_logit_softcapping"] = _f32(50.0)
        keys["final_logit_softcapping"] = _f32(config.real("final_logit_softcapping", 30.0))
    elif _period(config) != _GEMMA3_PERIOD:
        period = max(1, _period(config))
        slides = [(layer + 1) % period != 0 for layer in range(layers)]
        keys[PATTERN_KEY] = (slides, ValueType.ARRAY, ValueType.BOOL)
    return keys


def _rope(config: Settings, name: str, head_size: int) -> tuple[dict[str, Entry], npt.NDArray[np.float32] | None]:
    """Keys for positions, and the factors of their pairs if it has some."""
    nested = config.section("rope_parameters")
    local: Settings | None = None
    if nested is not None and "full_attention" in nested:
        local, nested = nested.section("sliding_attention"), nested.section("full_attention")
    base = nested.real("rope_theta") if nested is not None and "rope_theta" in nested else _ROPE_BASES.get(name)
    base = config.real("rope_theta", base)
    keys: dict[str, Entry] = {"rope.freq_base": _f32(base), "rope.dimension_count": _u32(head_size)}
    if name == "gemma3":
        local_base = local.real("rope_theta") if local is not None else 1e4
        keys["rope.freq_base_swa"] = _f32(config.real("rope_local_base_freq", local_base))
    scaling = config.section("rope_scaling") or nested
    kind = "default" if scaling is None else scaling.text("type", scaling.text("rope_type", "default"))
    if scaling is None or kind == "default":
        return keys, None
    if kind == "linear" and name != "gemma2":
        keys["rope.scaling.type"] = ("linear", ValueType.STRING, None)
        keys["rope.scaling.factor"] = _f32(scaling.real("factor"))
        return keys, None
    if kind == "llama3" and name == "llama":
        return keys, llama3_factors(scaling, base, head_size)
    raise unsupported(f"its way to scale positions ({quoted(kind)}) is not known for this architecture")


def llama3_factors(scaling: Settings, base: float, head_size: int) -> npt.NDArray[np.float32]:
    """By what Llama 3.1 divides the angle of each pair: 1 for short waves, `factor` for long ones, in between a blend.

    Source: `Llama3RoPE` of `mlx_lm/models/rope_utils.py`. Shape (head_size / 2,).
    """
    factor, trained = scaling.real("factor"), scaling.real("original_max_position_embeddings", 8192)
    low, high = scaling.real("low_freq_factor", 1.0), scaling.real("high_freq_factor", 4.0)
    if high <= low:
        raise unsupported("its 'high_freq_factor' is not above its 'low_freq_factor'")
    turns = trained / (2 * math.pi * base ** (np.arange(head_size // 2) * 2 / head_size))
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - share) / factor + share)).astype(np.float32)


def _bounded(config: Settings, key: str, most: int, default: int | None = None) -> int:
    value = config.integer(key, default)
    if not 0 < value <= most:
        raise unsupported(f"its {key!r} is {value}, not from 1 to {most}")
    return value


def _u32(value: int) -> Entry:
    return value, ValueType.UINT32, None


def _f32(value: float) -> Entry:
    return value, ValueType.FLOAT32, None


def entry_of(value: Any) -> Entry:
    """A text, a truth value, a number or a list of texts or numbers as a metadata value."""
    match value:
        case bool():
            return value, ValueType.BOOL, None
        case str():
            return value, ValueType.STRING, None
        case int():
            return _u32(value)
        case float():
            return _f32(value)
        case _:
            items = cast("list[Any]", value)
            kinds = {str: ValueType.STRING, bytes: ValueType.STRING, int: ValueType.INT32, float: ValueType.FLOAT32}
            return items, ValueType.ARRAY, kinds[type(items[0])]
