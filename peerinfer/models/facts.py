"""What placement and engines need to know of a model, derived from its header."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.architecture_rules import (
    EMBEDDING_TENSOR,
    HEAD_TENSOR,
    NORM_TENSOR,
    Architecture,
    number,
    stored_layers,
)
from peerinfer.models.architectures import architecture, per_layer
from peerinfer.models.gguf import GgufHeader
from peerinfer.models.mlx_rules import mlx_bytes, mlx_refusal

LAYERS_MAX = 512
"""LLAMA_MAX_LAYERS of llama.cpp's llama-hparams.h."""
WIDTH_MAX = 1 << 20
"""Numbers in an embedding; the widest real models have fewer than 2^16."""
VOCABULARY_MAX = (1 << 31) - 1
"""llama.cpp counts tokens in signed 32-bit numbers."""
KV_NUMBERS_MAX = 1 << 31
"""Cached of one token in one layer: far above any real model; times all layers and tokens still a 64-bit number."""
_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,4})\.(.+)")
"""One spelling for each layer: were 03 the layer 3 as well, two tensors of a shard could get one name."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Shape and sizes of one model. Sizes are bytes in the file, which is what a stage has in memory."""

    architecture: str
    n_layers: int
    n_embd: int
    n_vocab: int
    context_length: int
    """Tokens that the model was trained for."""
    layer_bytes: tuple[int, ...]
    embedding_bytes: int
    """The embedding table, which a first stage reads from disk row by row."""
    head_bytes: int
    """Final norm and head, which the last stage holds; with tied embeddings the table counts here too."""
    kv_bytes_per_token_per_layer: int
    """Keys and values of one token in one layer, float16; the greatest if layers differ."""
    kv_widths: tuple[int, int]
    """Numbers in the key and in the value of one token in one layer; the greatest if layers differ."""
    quantisation: str
    """Such as `Q4_K_M`, or the type of most tensors if the file does not say."""
    legal_cuts: tuple[int, ...]
    """Layers at which a stage may begin, besides 0; empty for a model that runs whole on one node only."""
    whole_only: str
    """Why the model runs whole only; empty if it may be cut."""
    tied_embeddings: bool
    mlx_refusal: str = ""
    """Why MLX cannot run the model, as in "for …"; empty if it can."""
    mlx_layer_bytes: tuple[int, ...] = ()
    """What each layer takes in MLX, whose quantised weights have wider scales; empty if it cannot run them."""
    mlx_head_bytes: int = 0


def layer_of(tensor: str) -> tuple[int, str] | None:
    """Layer and remaining name of a tensor such as `blk.7.attn_q.weight`; None for one of no layer."""
    match = _LAYER.fullmatch(tensor)
    return (int(match[1]), match[2]) if match else None


def model_facts(header: GgufHeader) -> ModelFacts:
    """The facts of the model with this header.

    Raises `UnsupportedModel` for files that are no whole text model, `CorruptModel` for contradictions.
    """
    name = header.text("general.architecture")
    if not _NAME.fullmatch(name):
        raise _damaged(header, f"{name[:64]!r} is no name of an architecture")
    _check_whole_text_model(header)
    n_layers = header.integer(f"{name}.block_count") - header.integer(f"{name}.nextn_predict_layers", 0)
    n_embd = header.integer(f"{name}.embedding_length")
    if not (1 <= n_layers <= LAYERS_MAX and 1 <= n_embd <= WIDTH_MAX):
        raise _damaged(header, f"it claims {n_layers} layers of width {n_embd}")
    table = header.by_name[EMBEDDING_TENSOR]
    if len(table.shape) != 2 or table.shape[0] != n_embd:
        raise _damaged(header, f"its embedding table does not have rows of {n_embd} numbers")
    if table.shape[1] > VOCABULARY_MAX:
        raise _damaged(header, f"its vocabulary of {table.shape[1]} tokens is over the limit of {VOCABULARY_MAX}")
    rules = architecture(name)
    rules.check_keys(header)
    whole_only = rules.why_whole(header, n_layers)
    head = header.by_name.get(HEAD_TENSOR)
    norm = header.by_name.get(NORM_TENSOR)
    widths = _kv_widths(header, n_embd, rules)
    refusal = mlx_refusal(header)
    return ModelFacts(
        architecture=name,
        n_layers=n_layers,
        n_embd=n_embd,
        n_vocab=table.shape[1],
        context_length=header.integer(f"{name}.context_length"),
        layer_bytes=_layer_bytes(header, n_layers, bool(rules.whole_only)),
        embedding_bytes=table.n_bytes,
        head_bytes=(head or table).n_bytes + (norm.n_bytes if norm else 0),
        kv_bytes_per_token_per_layer=cache_bytes(widths, "f16", "f16"),
        kv_widths=widths,
        quantisation=_quantisation(header),
        legal_cuts=rules.legal_cuts(header, n_layers),
        whole_only=whole_only,
        tied_embeddings=head is None,
        mlx_refusal=refusal,
        mlx_layer_bytes=() if refusal else _mlx_layer_bytes(header, n_layers),
        mlx_head_bytes=0 if refusal else mlx_bytes(head or table) + (norm.n_bytes if norm else 0),
    )


def _damaged(header: GgufHeader, what: str) -> CorruptModel:
    return CorruptModel(f"{header.name} is damaged: {what}. Fetch or convert it again.")


def _check_whole_text_model(header: GgufHeader) -> None:
    if header.integer("split.count", 1) > 1:
        raise UnsupportedModel(
            f"{header.name} is one part of a model in several files. Keep them in one folder, with their own names."
        )
    if EMBEDDING_TENSOR not in header.by_name:
        raise UnsupportedModel(f"{header.name} is no text model: it has no embedding table. Use a chat model.")


def _layer_bytes(header: GgufHeader, n_layers: int, whole_only: bool) -> tuple[int, ...]:
    """Bytes of each layer; even shares of all weights for a model of unknown build, which runs whole anyway."""
    if whole_only:
        ends = (EMBEDDING_TENSOR, HEAD_TENSOR, NORM_TENSOR)
        total = sum(tensor.n_bytes for tensor in header.tensors if tensor.name not in ends)
        return (-(-total // n_layers),) * n_layers
    sizes = [0] * n_layers
    for tensor in header.tensors:
        place = layer_of(tensor.name)
        if place is None:
            continue
        if place[0] >= stored_layers(header):
            raise _damaged(header, f"it has the tensor {tensor.name!r} but {n_layers} layers")
        if place[0] < n_layers:
            sizes[place[0]] += tensor.n_bytes
    if 0 in sizes:
        raise _damaged(header, f"its layer {sizes.index(0)} has no weights")
    return tuple(sizes)


def _mlx_layer_bytes(header: GgufHeader, n_layers: int) -> tuple[int, ...]:
    sizes = [0] * n_layers
    for tensor in header.tensors:
        place = layer_of(tensor.name)
        if place is not None and place[0] < n_layers:
            sizes[place[0]] += mlx_bytes(tensor)
    return tuple(sizes)


def _kv_widths(header: GgufHeader, n_embd: int, rules: Architecture) -> tuple[int, int]:
    """As llama.cpp's llama_hparams: `n_embd_k_gqa` and `n_embd_v_gqa`; 0 for a model without attention."""
    heads = per_layer(header, "attention.head_count", 0)
    heads_kv = per_layer(header, "attention.head_count_kv", max(heads))
    width = n_embd // (heads[0] or max(1, *heads))
    sizes = {"": tuple(number(header, f"attention.{part}_length", width) for part in ("key", "value"))}
    sizes["_swa"] = tuple(
        number(header, f"attention.{part}_length_swa", size)
        for part, size in zip(("key", "value"), sizes[""], strict=True)
    )
    slides = rules.slides(header) or [False] * len(heads_kv)
    layers = ((n, sizes["_swa" if sliding else ""]) for n, sliding in zip(heads_kv, slides, strict=False))
    widths = max(((n * key, n * value) for n, (key, value) in layers), key=sum, default=(0, 0))
    if sum(widths) > KV_NUMBERS_MAX:
        raise _damaged(header, f"its attention keeps {sum(widths)} numbers of one token in one layer")
    return widths


def cache_bytes(widths: tuple[int, int], key_type: str, value_type: str) -> int:
    """Bytes of the KV cache for one token in one layer, if keys and values are of types such as `f16` or `q8_0`.

    `widths` are the numbers in a key and in a value, as in `ModelFacts.kv_widths`.
    """
    total = 0
    for width, kind in zip(widths, (key_type, value_type), strict=True):
        block_items, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]
        total += -(-width // block_items) * block_bytes
    return total


def check_cut(facts: ModelFacts, first_layer: int, last_layer: int) -> None:
    """Raises `UnsupportedModel` unless layers `first_layer` … `last_layer - 1` may be a stage of their own."""
    n_layers = facts.n_layers
    if not 0 <= first_layer < last_layer <= n_layers:
        raise UnsupportedModel(f"There are no layers {first_layer}-{last_layer} in a model of {n_layers} layers.")
    if {first_layer, last_layer} <= {0, n_layers, *facts.legal_cuts}:
        return
    if facts.whole_only:
        raise UnsupportedModel(
            f"Layers {first_layer}-{last_layer} cannot be a stage: {facts.whole_only}. Run the model whole on one node."
        )
    cuts = ", ".join(map(str, facts.legal_cuts)) or "none, for it has too few layers"
    raise UnsupportedModel(
        f"Layers {first_layer}-{last_layer} cannot be a stage of a {facts.architecture} model. "
        f"Begin and end stages at its legal cuts: {cuts}."
    )


def _quantisation(header: GgufHeader) -> str:
    number = header.metadata.get("general.file_type")
    if isinstance(number, int) and number in LlamaFileType.__members__.values():
        return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    weights = Counter[str]()
    for tensor in header.tensors:
        weights[tensor.type.name] += tensor.n_bytes
    return weights.most_common(1)[0][0]
