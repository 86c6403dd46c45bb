"""Blocks of `mlx_lm.models` for each architecture, with the numbers that llama.cpp reads from the same header.

Sources: llama.cpp `src/llama-model.cpp` (`load_hparams`) and `src/models/` for what each key means; the classes
`ModelArgs` and `TransformerBlock` of `mlx_lm.models` for how a block is told.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn

from peerinfer.engine.mlx_layers import Cache, Rope, evaluate
from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.architecture_rules import WINDOW_KEY, number
from peerinfer.models.architectures import architecture
from peerinfer.models.gguf import GgufHeader
from peerinfer.models.mlx_rules import MLX_RULES, MlxRules, mlx_refusal

CONTEXT_STEP: Final = 256
"""llama.cpp rounds the context of a sequence up to this (`GGML_PAD` in llama-context.cpp)."""
FUSED_HEADS: Final = (64, 128)
"""Sizes of heads for which MLX's attention on Metal keeps its scores in float32 whatever goes in."""
LARGE_MODELS: Final = {"gemma2": 46, "gemma3": 62}
"""Layers of the 27B models, whose attention has a scale of its own."""
SOFTCAPS: Final = {"gemma2": 30.0}
"""Of the final logits, where the file does not say."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The hyper-parameters of one model, as its header tells them."""

    architecture: str
    width: int
    heads: int
    kv_heads: int
    head_size: int
    inner_width: int
    norm_epsilon: float
    slides: Sequence[bool]
    """Whether each layer sees a window only."""
    window: int
    """Tokens; 0 for none."""
    logit_cap: float
    """The final logits are squeezed into ± this; 0 for not at all."""


def numbers(header: GgufHeader) -> Numbers:
    """What the header says. Raises `UnsupportedModel` with the reason for a model that MLX cannot run here."""
    refusal = mlx_refusal(header)
    if refusal:
        raise UnsupportedModel(f"MLX cannot run {header.name}: {refusal}. Run it with llama.cpp.")
    name = header.text("general.architecture")
    width, heads = number(header, "embedding_length"), number(header, "attention.head_count")
    layers = number(header, "block_count")
    slides = architecture(name).slides(header)
    return Numbers(
        architecture=name,
        width=width,
        heads=heads,
        kv_heads=number(header, "attention.head_count_kv", heads),
        head_size=number(header, "attention.key_length", width // heads),
        inner_width=number(header, "feed_forward_length"),
        norm_epsilon=real(header, "attention.layer_norm_rms_epsilon"),
        slides=slides or [False] * layers,
        window=number(header, WINDOW_KEY, 0) if slides else 0,
        logit_cap=real(header, "final_logit_softcapping", SOFTCAPS.get(name, 0.0)),
    )


def real(header: GgufHeader, key: str, default: float | None = None) -> float:
    """The number under the key of this architecture. Raises `CorruptModel` without one or a default."""
    value = header.metadata.get(f"{header.text('general.architecture')}.{key}", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise CorruptModel(f"{header.name} is damaged: it has no number {key!r}. Fetch or convert it again.")
    return float(value)


class Family:
    """The classes of one architecture, as the installed `mlx_lm` has them."""

    def __init__(self, name: str) -> None:
        """Raises `UnsupportedModel` if this version of `mlx_lm` has them no more, or not as they are known here."""
        self.rules: MlxRules = MLX_RULES[name]
        try:
            module: Any = importlib.import_module(f"mlx_lm.models.{self.rules.module}")
            self._arguments: Callable[..., Any] = module.ModelArgs
            self._block: Callable[..., Any] = module.TransformerBlock
        except (ImportError, AttributeError) as error:
            raise UnsupportedModel(f"{_moved(self.rules.module)} ({type(error).__name__}: {error})") from None

    def block(self, told: Numbers, *, slides: bool, layers: int) -> Any:
        """One layer, its weights and rope still to be set. Raises `UnsupportedModel` as above."""
        try:
            arguments = self._arguments(**self._told(told, layers))
            if self.rules.module == "gemma3_text":
                return self._block(arguments, 0 if slides else 1)
            return self._block(arguments)
        except (TypeError, AttributeError, ValueError) as error:
            raise UnsupportedModel(f"{_moved(self.rules.module)} ({type(error).__name__}: {error})") from None

    def _told(self, told: Numbers, layers: int) -> dict[str, Any]:
        """Arguments of `ModelArgs`. Positions are turned by our own `Rope`, so theirs say nothing."""
        arguments: dict[str, Any] = {
            "model_type": told.architecture,
            "hidden_size": told.width,
            "num_hidden_layers": 1,
            "intermediate_size": told.inner_width,
            "num_attention_heads": told.heads,
            "num_key_value_heads": told.kv_heads,
            "rms_norm_eps": told.norm_epsilon,
            "vocab_size": 1,
        }
        if not self.rules.heads_fill_width:
            arguments["head_dim"] = told.head_size
        if self.rules.module == "qwen3":
            arguments |= {"max_position_embeddings": 1, "tie_word_embeddings": True, "rope_theta": 1e4}
        if self.rules.module in ("gemma2", "gemma3_text"):
            is_large = LARGE_MODELS[told.architecture] == layers
            arguments["query_pre_attn_scalar"] = told.width / told.heads if is_large else told.head_size
        if self.rules.module == "gemma2":
            arguments["attn_logit_softcapping"] = 50.0
        if self.rules.module == "gemma3_text":
            arguments["sliding_window_pattern"] = 2  # of two layers the second sees everything: see `block`
        return arguments


def _moved(module: str) -> str:
    return (
        f"The installed mlx-lm has no `mlx_lm.models.{module}` as peerinfer knows it: run scripts/setup for a version "
        "that has, or run this model with llama.cpp."
    )


def rope(header: GgufHeader, factors: npt.NDArray[np.float32] | None, *, slides: bool, out: mx.Dtype) -> Rope:
    """How a layer turns positions. `factors` are those of its pairs by which angles are divided, if it has some."""
    name = header.text("general.architecture")
    size = number(header, "attention.key_length", number(header, "embedding_length") // _heads(header))
    pairs = number(header, "rope.dimension_count", size) // 2
    base = real(header, "rope.freq_base", 10_000.0)
    scaling = header.metadata.get(f"{name}.rope.scaling.type", "")
    factor = real(header, "rope.scaling.factor", real(header, "rope.scale_linear", 0.0))
    stretch = factor if factor and scaling != "none" else 1.0
    if slides and name == "gemma3":
        base, stretch = real(header, "rope.freq_base_swa", 10_000.0), 1.0
    wavelengths = np.float64(base) ** (np.arange(pairs) / pairs) * stretch
    if factors is not None:
        if factors.shape != (pairs,):
            raise CorruptModel(f"{header.name} is damaged: its factors of positions are not {pairs}. Fetch it again.")
        wavelengths *= factors
    return Rope(
        mx.array(wavelengths.astype(np.float32)),
        neighbours=MLX_RULES[name].pairs_are_neighbours,
        magnitude=real(header, "rope.scaling.attn_factor", 1.0),
        out=out,
    )


def factors_name(header: GgufHeader, context: int) -> str:
    """The tensor with the factors of positions that llama.cpp takes for sequences of `context` tokens."""
    if "rope_factors_long.weight" not in header.by_name:
        return "rope_freqs.weight"
    trained = number(header, "rope.scaling.original_context_length", number(header, "context_length"))
    padded = -(-context // CONTEXT_STEP) * CONTEXT_STEP
    return "rope_factors_long.weight" if padded > trained else "rope_factors_short.weight"


def _heads(header: GgufHeader) -> int:
    return number(header, "attention.head_count")


def norm(weight: mx.array, epsilon: float) -> nn.RMSNorm:
    """A norm by the weights of a GGUF file, which are those it multiplies by (gemma's 1 is added already)."""
    made = nn.RMSNorm(weight.size, eps=epsilon)
    made.weight = weight
    return made


def put(block: Any, path: str, module: Any) -> None:
    """Replaces the module at a path in a block. Raises `UnsupportedModel` if the block has none there."""
    *above, name = path.split(".")
    for step in above:
        block = getattr(block, step, None)
    if not hasattr(block, name):
        raise UnsupportedModel(f"The blocks of the installed mlx-lm have no {path!r}. Run this model with llama.cpp.")
    setattr(block, name, module)


_TRIAL: Final = Numbers("", 32, 4, 4, 8, 32, 1e-5, [False], 0, 0.0)


def try_family(name: str) -> None:
    """Builds a layer of an architecture and runs it once. Raises `UnsupportedModel` if `mlx_lm` has it otherwise."""
    family = Family(name)
    told = replace(_TRIAL, architecture=name)
    block = family.block(told, slides=False, layers=1)
    for path in family.rules.names.values():
        if "norm" in path:
            put(block, path, norm(mx.ones(_width(block, path)), told.norm_epsilon))
    put(block, "self_attn.rope", Rope(mx.ones(told.head_size // 2), neighbours=False, magnitude=1.0, out=mx.float32))
    cache = Cache(1, told.kv_heads, 1, told.head_size, (mx.float16, mx.float16))
    cache.aim([0], [0], 0, 0)
    try:
        states: mx.array = block(mx.zeros((1, 1, told.width)), None, cache)
        evaluate(states)
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UnsupportedModel(f"{_moved(family.rules.module)} ({type(error).__name__}: {error})") from None
    if states.shape != (1, 1, told.width):
        raise UnsupportedModel(_moved(family.rules.module))


def _width(block: Any, path: str) -> int:
    """Numbers that the norm at a path works on. Raises `UnsupportedModel` if there is none."""
    for step in path.split("."):
        block = getattr(block, step, None)
    if block is None:
        raise UnsupportedModel(f"The blocks of the installed mlx-lm have no {path!r}. Run this model with llama.cpp.")
    return int(block.weight.size)
