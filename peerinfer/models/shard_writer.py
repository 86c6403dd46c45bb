"""What stands in a shard file: a plan made from the model's header; the weights are copied byte for byte.

A shard keeps the architecture and hyper-parameters of its model, and the layers of its range numbered from 0.

- A trunk has no tokenizer, a vocabulary of one token (a row of zeros) and a final norm of ones: llama.cpp reserves
  memory for outputs times vocabulary, and a trunk never computes the head.
- A last stage has the final norm and the head. The head is stored as the embedding table, which llama.cpp takes for
  the head where `output.weight` is missing; so it loads no table in which nobody looks anything up. Where llama.cpp
  insists on `output.weight`, the head stands there too, for the embedding table must have its shape; as nobody reads
  the table, it costs room on the disk but not in memory.
- A vocabulary file has header and tokenizer without weights, to be opened with `vocab_only`.
- An embedding file has the table that a first stage looks tokens up in, where the model's own file is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.architecture_rules import (
    EMBEDDING_TENSOR,
    HEAD_BIAS_TENSOR,
    HEAD_TENSOR,
    NORM_BIAS_TENSOR,
    NORM_TENSOR,
    Architecture,
    Entry,
)
from peerinfer.models.architectures import architecture
from peerinfer.models.facts import ModelFacts, check_cut, layer_of, model_facts
from peerinfer.models.gguf import GgufHeader, TensorInfo, Value, ValueType
from peerinfer.models.gguf_cursor import StringArray

_GENERAL_KEYS = ("general.file_type", "general.quantization_version")
_SKIPPED_KEYS = ("general.architecture", "general.alignment")


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor of a shard: its new name, and where it stands in the model or, for a made-up one, its bytes."""

    name: str
    info: TensorInfo
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """All that a shard file will hold."""

    architecture: str
    metadata: dict[str, Entry]
    sources: tuple[Source, ...]


def plan_vocabulary(header: GgufHeader) -> ShardPlan:
    """Everything of the header, and no weights. Raises `CorruptModel` if there is no tokenizer."""
    header.text("tokenizer.ggml.model")
    metadata = {key: _entry(header, key, value) for key, value in header.metadata.items() if key not in _SKIPPED_KEYS}
    return ShardPlan(header.text("general.architecture"), metadata, ())


def plan_stage(header: GgufHeader, first_layer: int, last_layer: int, kind: str) -> ShardPlan:
    """The shard of layers `first_layer` … `last_layer - 1`; `kind` is `trunk` or `last`.

    Raises `UnsupportedModel` if the range may not be a stage of that kind, `CorruptModel` for contradictions.
    """
    facts = model_facts(header)
    check_cut(facts, first_layer, last_layer)
    if (last_layer == facts.n_layers) != (kind == "last"):
        raise UnsupportedModel(f"Layers {first_layer}-{last_layer} of {facts.n_layers} are no {kind} stage.")
    rules = architecture(facts.architecture)
    ends = (_trunk_ends if kind == "trunk" else _last_ends)(header, facts, rules)
    sources = (*ends, *_layers(header, rules, first_layer, last_layer))
    metadata = _stage_metadata(header, facts, rules, first_layer, last_layer)
    metadata[f"{facts.architecture}.vocab_size"] = (1 if kind == "trunk" else facts.n_vocab, ValueType.UINT32, None)
    return ShardPlan(facts.architecture, metadata, sources)


def plan_whole(header: GgufHeader) -> ShardPlan:
    """All of the model, in one file. Raises `CorruptModel` for contradictions."""
    metadata = {key: _entry(header, key, value) for key, value in header.metadata.items() if key not in _SKIPPED_KEYS}
    return ShardPlan(
        header.text("general.architecture"), metadata, tuple(Source(one.name, one) for one in header.tensors)
    )


def plan_embedding(header: GgufHeader) -> ShardPlan:
    """The embedding table, and the hyper-parameters that tell what it is multiplied by."""
    name = model_facts(header).architecture
    metadata = {key: _entry(header, key, value) for key, value in header.metadata.items() if key.startswith(f"{name}.")}
    return ShardPlan(name, metadata, (Source(EMBEDDING_TENSOR, header.by_name[EMBEDDING_TENSOR]),))


def _stage_metadata(
    header: GgufHeader, facts: ModelFacts, rules: Architecture, first_layer: int, last_layer: int
) -> dict[str, Entry]:
    prefix = f"{facts.architecture}."
    metadata = {
        key: _entry(header, key, value)
        for key, value in header.metadata.items()
        if key.startswith(prefix) or key in _GENERAL_KEYS
    }
    metadata.update(rules.stage_keys(header, facts.n_layers, first_layer, last_layer))
    metadata["tokenizer.ggml.model"] = ("none", ValueType.STRING, None)
    return metadata


def _entry(header: GgufHeader, key: str, value: Value) -> Entry:
    kind, items = header.types[key]
    if isinstance(value, StringArray):
        return list(value.raw()), kind, items
    if isinstance(value, np.ndarray):
        return value.tolist(), kind, items
    return value, kind, items


def _trunk_ends(header: GgufHeader, facts: ModelFacts, rules: Architecture) -> Iterator[Source]:
    """Tables, a final norm and biases that nobody uses, for llama.cpp insists on them."""
    yield _made(EMBEDDING_TENSOR, np.zeros((1, facts.n_embd), "<f4"))
    yield _made(NORM_TENSOR, np.ones(facts.n_embd, "<f4"))
    if rules.head_required:
        yield _made(HEAD_TENSOR, np.zeros((1, facts.n_embd), "<f4"))
    if NORM_BIAS_TENSOR in header.by_name:
        yield _made(NORM_BIAS_TENSOR, np.zeros(facts.n_embd, "<f4"))
    if HEAD_BIAS_TENSOR in header.by_name:
        yield _made(HEAD_BIAS_TENSOR, np.zeros(1, "<f4"))


def _made(name: str, values: npt.NDArray[np.float32]) -> Source:
    info = TensorInfo(name, values.shape[::-1], GGMLQuantizationType.F32, 0, values.nbytes)
    return Source(name, info, values.tobytes())


def _last_ends(header: GgufHeader, facts: ModelFacts, rules: Architecture) -> Iterator[Source]:
    head = header.by_name.get(HEAD_TENSOR, header.by_name[EMBEDDING_TENSOR])
    if head.shape != (facts.n_embd, facts.n_vocab):
        raise CorruptModel(f"{header.name} is damaged: its head has another shape than its embedding table.")
    if NORM_TENSOR not in header.by_name:
        raise CorruptModel(f"{header.name} is damaged: it has no final norm. Fetch or convert it again.")
    yield Source(EMBEDDING_TENSOR, head)
    if rules.head_required:
        yield Source(HEAD_TENSOR, head)
    for name in (NORM_TENSOR, NORM_BIAS_TENSOR, HEAD_BIAS_TENSOR):
        if name in header.by_name:
            yield Source(name, header.by_name[name])


def _layers(header: GgufHeader, rules: Architecture, first_layer: int, last_layer: int) -> Iterator[Source]:
    """The tensors of the layers in range, renumbered from 0, and those that every shard needs."""
    shared = rules.shared_tensors(header, first_layer, last_layer)
    for info in header.tensors:
        place = layer_of(info.name)
        if place is not None:
            layer, name = place
            if first_layer <= layer < last_layer:
                yield Source(f"blk.{layer - first_layer}.{name}", info)
        elif info.name in shared:
            yield Source(info.name, info)
