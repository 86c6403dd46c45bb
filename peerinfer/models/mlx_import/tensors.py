"""What becomes of each tensor of a model: its name and type in the GGUF file, and how its numbers are read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.architecture_rules import EMBEDDING_TENSOR, HEAD_TENSOR, NORM_TENSOR
from peerinfer.models.gguf import TensorInfo
from peerinfer.models.mlx_import.blocks import BLOCK, TYPE_OF_BITS, TYPE_OF_DTYPE
from peerinfer.models.mlx_import.config import Settings, quoted, unsupported
from peerinfer.models.mlx_import.hyperparameters import Hyperparameters
from peerinfer.models.mlx_rules import MLX_RULES
from peerinfer.models.safetensors import StoredTensor, damaged

EMBEDDING_MODULE: Final = "model.embed_tokens"
HEAD_MODULE: Final = "lm_head"
_NORM_MODULE: Final = "model.norm"
_IGNORED: Final = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Computed from the configuration; old files have it, and `mlx_lm` throws it away."""
_LINEAR_BIASES: Final = {
    "llama": ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"),
    "qwen2": ("attn_q", "attn_k", "attn_v"),
}
"""Layers that may have a bias, by architecture (llama.cpp `src/models/`, `load_arch_tensors`)."""
_PARTS: Final = ("scales", "biases")
GROUP_SIZES: Final = (32, 64, 128)
"""Weights that share a scale, as MLX's affine format has them."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the weights of a module are packed."""

    group: int
    bits: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """One tensor of the GGUF file, and from what it is made."""

    info: TensorInfo
    """Its name, shape, type and size there; the offset says nothing."""
    weight: StoredTensor
    scales: StoredTensor | None = None
    biases: StoredTensor | None = None
    quantisation: Quantisation | None = None
    plus_one: bool = False
    """Whether 1 is added, as for gemma's norms."""
    permute: int = 0
    """Size of the heads whose rows are put into another order; 0 for none."""

    @property
    def rows(self) -> int:
        """Rows of the tensor; a vector is one row."""
        return 1 if len(self.info.shape) == 1 else self.info.shape[1]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the weights of a module belong."""

    name: str
    """In the GGUF file, without `.weight`."""
    shape: tuple[int, ...]
    """Rows first."""
    has_bias: bool = False
    plus_one: bool = False
    permute: int = 0


def conversions(told: Hyperparameters, config: Settings, stored: Mapping[str, StoredTensor]) -> tuple[Conversion, ...]:
    """All tensors of the GGUF file but those made from the configuration, in order.

    Raises `UnsupportedModel` for a tensor or a quantisation that is not understood, `CorruptModel` for contradictions.
    """
    quantisations = Quantisations(config)
    left = {name: tensor for name, tensor in stored.items() if not _IGNORED.fullmatch(name)}
    made: list[Conversion] = []
    for module, place in _places(told, left):
        parts = {part: left.pop(f"{module}.{part}", None) for part in ("weight", *_PARTS, *(["bias"] * place.has_bias))}
        weight = parts["weight"]
        if weight is None:
            raise CorruptModel(f"The model is not whole: it has no {module}.weight. Fetch all its files.")
        made.append(_conversion(place, weight, parts["scales"], parts["biases"], quantisations.of(module)))
        if (bias := parts.get("bias")) is not None:
            made.append(_vector(bias, f"{place.name}.bias", place.shape[0], permute=place.permute))
    if left:
        raise unsupported(f"what its tensor {quoted(min(left))} is for is not known")
    return tuple(made)


def _places(told: Hyperparameters, stored: dict[str, StoredTensor]) -> Iterator[tuple[str, _Place]]:
    """Each module of the model with its place, in the order of the GGUF file."""
    table = (told.vocabulary, told.width)
    yield EMBEDDING_MODULE, _Place(_stem(EMBEDDING_TENSOR), table)
    shapes = _shapes(told)
    biased = _LINEAR_BIASES.get(told.architecture, ())
    for layer in range(told.layers):
        for stem, path in MLX_RULES[told.architecture].names.items():
            yield (
                f"model.layers.{layer}.{path}",
                _Place(
                    f"blk.{layer}.{stem}",
                    shapes[stem],
                    has_bias=stem in biased,
                    plus_one=told.is_gemma and len(shapes[stem]) == 1,
                    permute=told.head_size if told.is_permuted and stem in ("attn_q", "attn_k") else 0,
                ),
            )
    yield _NORM_MODULE, _Place(_stem(NORM_TENSOR), (told.width,), plus_one=told.is_gemma)
    if told.tied or (told.tied is None and f"{HEAD_MODULE}.weight" not in stored):
        for part in ("weight", *_PARTS):  # a head that is said to be the table is not used, as in `mlx_lm`
            stored.pop(f"{HEAD_MODULE}.{part}", None)
    else:
        yield HEAD_MODULE, _Place(_stem(HEAD_TENSOR), table)


def _stem(tensor: str) -> str:
    return tensor.removesuffix(".weight")


def _shapes(told: Hyperparameters) -> dict[str, tuple[int, ...]]:
    """Of each tensor of a layer, rows first."""
    width, inner = told.width, told.inner_width
    queries, keys = told.heads * told.head_size, told.kv_heads * told.head_size
    norms = dict.fromkeys(("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"), (width,))
    is_fused = "attn_qkv" in MLX_RULES[told.architecture].names
    return {
        **norms,
        **dict.fromkeys(("attn_q_norm", "attn_k_norm"), (told.head_size,)),
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_qkv": (queries + 2 * keys, width),
        "attn_output": (width, queries),
        "ffn_gate": (inner, width),
        "ffn_up": (2 * inner if is_fused else inner, width),
        "ffn_down": (width, inner),
    }


def _conversion(
    place: _Place,
    weight: StoredTensor,
    scales: StoredTensor | None,
    biases: StoredTensor | None,
    quantisation: Quantisation | None,
) -> Conversion:
    name = f"{place.name}.weight"
    if len(place.shape) == 1:
        return _vector(weight, name, place.shape[0], plus_one=place.plus_one)
    rows, columns = place.shape
    if scales is None:
        if weight.shape != place.shape or biases is not None:
            raise damaged(weight.path, f"{quoted(weight.name)} is not of {rows} rows of {columns} numbers")
        kind = TYPE_OF_DTYPE.get(weight.dtype)
        if kind is None:
            raise _unknown_type(weight)
        return Conversion(_info(name, place.shape, kind), weight, permute=place.permute)
    if quantisation is None:
        raise unsupported(f"{quoted(weight.name)} has scales, but its configuration says nothing of a quantisation")
    if biases is None:
        raise unsupported(f"{quoted(weight.name)} is quantised without biases, which is not MLX's affine format")
    if columns % BLOCK or columns % quantisation.group:
        raise unsupported(f"the rows of {quoted(weight.name)} are no multiple of {max(BLOCK, quantisation.group)}")
    groups = (rows, columns // quantisation.group)
    packed = (rows, columns * quantisation.bits // 32)
    if weight.dtype != "U32" or weight.shape != packed or scales.shape != groups or biases.shape != groups:
        raise damaged(weight.path, f"{quoted(weight.name)} is not packed as its configuration says")
    for tensor in (scales, biases):
        if tensor.dtype not in TYPE_OF_DTYPE:
            raise _unknown_type(tensor)
    info = _info(name, place.shape, TYPE_OF_BITS[quantisation.bits])
    return Conversion(info, weight, scales, biases, quantisation, permute=place.permute)


def _vector(tensor: StoredTensor, name: str, size: int, *, plus_one: bool = False, permute: int = 0) -> Conversion:
    """A norm or a bias, which llama.cpp wants as float32."""
    if tensor.shape != (size,):
        raise damaged(tensor.path, f"{quoted(tensor.name)} is not of {size} numbers")
    if tensor.dtype not in TYPE_OF_DTYPE:
        raise _unknown_type(tensor)
    info = _info(name, (size,), GGMLQuantizationType.F32)
    return Conversion(info, tensor, plus_one=plus_one, permute=permute)


def _unknown_type(tensor: StoredTensor) -> UnsupportedModel:
    return unsupported(f"its tensor {quoted(tensor.name)} has numbers of the type {tensor.dtype}")


def _info(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType) -> TensorInfo:
    items, n_bytes = GGML_QUANT_SIZES[kind]
    count = 1
    for size in shape:
        count *= size
    return TensorInfo(name, shape[::-1], kind, 0, count // items * n_bytes)


class Quantisations:
    """What a configuration says of the quantisation of each module."""

    def __init__(self, config: Settings) -> None:
        """Raises `UnsupportedModel` for a way to quantise that is not MLX's affine one."""
        section = config.section("quantization")
        if section is None:
            section = config.section("quantization_config")
            if section is not None and "quant_method" in section:
                raise unsupported(f"it is quantised by {quoted(section.raw('quant_method'))}")
        self._section = section
        self._default = None if section is None else _quantisation(section)

    def of(self, module: str) -> Quantisation | None:
        """That of the module; None if nothing is quantised. Raises as above."""
        own: Any = None if self._section is None else self._section.raw(module)
        if isinstance(own, dict) and self._section is not None:
            return _quantisation(Settings(self._section.name, cast("dict[str, Any]", own)))
        return self._default


def _quantisation(section: Settings) -> Quantisation:
    mode = section.text("mode", "affine")
    if mode != "affine":
        raise unsupported(f"it is quantised in the mode {quoted(mode)}; the mode 'affine' can be converted")
    group, bits = section.integer("group_size", 64), section.integer("bits", 4)
    if group not in GROUP_SIZES or bits not in TYPE_OF_BITS:
        raise unsupported(f"it is quantised to {bits} bits in groups of {group}")
    return Quantisation(group, bits)
