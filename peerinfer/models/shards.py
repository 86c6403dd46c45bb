"""Shard files: small GGUF files, cut from a model, that stock llama.cpp loads and that hold one stage's layers only.

A shard keeps the architecture and hyper-parameters of its model, and the layers of its range numbered from 0.

- `trunk`, every stage but the last: no tokenizer, a vocabulary of one token (a row of zeros) and a final norm of ones,
  for llama.cpp reserves memory for outputs times vocabulary, and a trunk never computes the head.
- `last`: the final norm and the head. The head is stored as the embedding table, which llama.cpp uses as head where
  `output.weight` is missing; so no table is loaded that nobody looks anything up in.
- `vocab`: header and tokenizer without weights, to be opened with `vocab_only`.
- `whole`: first and last stage in one, which is the model file itself.

Weights are copied as they are, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

from peerinfer.errors import CorruptModel, ModelError, UnsupportedModel
from peerinfer.models.architectures import Architecture, architecture, check_cut
from peerinfer.models.atomic import check_room, remove_leftovers, replacing
from peerinfer.models.facts import EMBEDDING_TENSOR, HEAD_TENSOR, ModelFacts, layer_of, model_facts
from peerinfer.models.gguf import (
    ALIGNMENT_DEFAULT,
    GgufHeader,
    TensorInfo,
    Value,
    ValueType,
    read_header,
)
from peerinfer.models.gguf_cursor import StringArray

WRITER_VERSION = 1
"""Raised with every change of what this file writes, so that shards of an older peerinfer are not reused."""
COPY_CHUNK_BYTES = 4 << 20
"""Copied at once: few calls, little memory."""
HEADER_ROOM_BYTES = 1 << 16
"""Allowance for the header of a shard when the room on the disk is checked."""
KINDS = ("trunk", "last", "vocab", "whole")

_NORM_TENSOR = "output_norm.weight"
_GENERAL_KEYS = ("general.file_type", "general.quantization_version")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 … 1."""
_Metadata = dict[str, tuple[Value | list[Any], ValueType, ValueType | None]]


@dataclass(frozen=True, slots=True)
class ShardKey:
    """What makes two shard files the same: the model's digest, the layers, the kind and the version of this writer."""

    digest: str
    """SHA-256 of the model file, 64 hex digits."""
    first_layer: int
    last_layer: int
    """Half-open: the layer after the last one. A `vocab` has the layers 0-0."""
    kind: str
    """One of `KINDS`."""
    writer_version: int = WRITER_VERSION

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest) or self.kind not in KINDS:
            raise UnsupportedModel("A shard is named by 64 hex digits and its kind; this one is not. Load it again.")

    @property
    def file_name(self) -> str:
        """Name of the shard file in its folder; made of checked parts only."""
        layers = f"{int(self.first_layer)}-{int(self.last_layer)}"
        return f"{self.digest}-{layers}-{self.kind}-v{int(self.writer_version)}.gguf"


def stage_key(digest: str, first_layer: int, last_layer: int, n_layers: int) -> ShardKey:
    """The key of the stage with layers `first_layer` … `last_layer - 1` of a model of `n_layers`."""
    if last_layer < n_layers:
        kind = "trunk"
    else:
        kind = "whole" if first_layer == 0 else "last"
    return ShardKey(digest, first_layer, last_layer, kind)


def vocab_key(digest: str) -> ShardKey:
    """The key of the vocabulary-only file of a model."""
    return ShardKey(digest, 0, 0, "vocab")


def ensure_shard(model: Path, key: ShardKey, folder: Path, progress: Progress | None = None) -> Path:
    """The path of the shard `key` of the file `model`, written into `folder` unless it is there already.

    The caller vouches that `key.digest` is the digest of `model`. Safe for several writers at once, and against a
    crash at any point. Raises `UnsupportedModel` for a range that may not be a stage, `CorruptModel`, `DiskFull`.
    """
    if key.kind == "whole":
        return model
    final = folder / key.file_name
    if _is_whole(final):
        return final
    header = read_header(model)
    metadata, sources = _plan(header, key)
    n_bytes = sum(_padded(source.n_bytes) for source in sources) + HEADER_ROOM_BYTES
    check_room(folder, n_bytes + (header.data_offset if key.kind == "vocab" else 0), f"A shard of {header.name}")
    remove_leftovers(folder)
    with replacing(final) as partial:
        _write_header(partial, header.text("general.architecture"), metadata, sources)
        with partial.open("ab") as output, model.open("rb") as source:
            _write_weights(output, source, sources, progress or _silent)
    return final


@dataclass(frozen=True, slots=True)
class _Source:
    """One tensor of a shard: its new name, and its place in the model or, for a made-up one, its bytes."""

    name: str
    info: TensorInfo
    content: bytes | None = None

    @property
    def n_bytes(self) -> int:
        return self.info.n_bytes


def _silent(_share: float) -> None:
    """Nobody wants to know."""


def _is_whole(path: Path) -> bool:
    """Whether a shard is there, with all its weights. A name is final only when its content is; disks may still fail."""
    if not path.is_file():
        return False
    try:
        read_header(path)
    except ModelError:
        return False
    return True


def _plan(header: GgufHeader, key: ShardKey) -> tuple[_Metadata, list[_Source]]:
    """Metadata and tensors of the shard."""
    if key.kind == "vocab":
        return _vocab_metadata(header), []
    facts = model_facts(header)
    check_cut(facts.architecture, facts.n_layers, key.first_layer, key.last_layer)
    if stage_key(key.digest, key.first_layer, key.last_layer, facts.n_layers).kind != key.kind:
        raise UnsupportedModel(
            f"Layers {key.first_layer}-{key.last_layer} of {facts.n_layers} are no {key.kind!r} stage. Load it again."
        )
    rules = architecture(facts.architecture)
    sources = [_matrix_end(header, facts, key.kind), _norm_end(header, facts, key.kind)]
    return _stage_metadata(header, facts, rules, key), [*sources, *_layers(header, rules, key)]


def _vocab_metadata(header: GgufHeader) -> _Metadata:
    header.text("tokenizer.ggml.model")
    skipped = ("general.architecture", "general.alignment")
    return {
        key: _plain(value, *header.types[key]) for key, value in header.metadata.items() if key not in skipped
    }


def _stage_metadata(header: GgufHeader, facts: ModelFacts, rules: Architecture, key: ShardKey) -> _Metadata:
    prefix = f"{facts.architecture}."
    sliced = {prefix + name for name in rules.per_layer_keys}
    metadata: _Metadata = {}
    for name, value in header.metadata.items():
        if not name.startswith(prefix) and name not in _GENERAL_KEYS:
            continue
        if name in sliced and isinstance(value, np.ndarray):
            if len(value) != facts.n_layers:
                raise CorruptModel(f"{header.name} is damaged: {name!r} does not have one item for each layer.")
            value = value[key.first_layer : key.last_layer]  # noqa: PLW2901 (the loop's value, cut to the range)
        metadata[name] = _plain(value, *header.types[name])
    vocabulary = 1 if key.kind == "trunk" else facts.n_vocab
    metadata[f"{prefix}block_count"] = (key.last_layer - key.first_layer, ValueType.UINT32, None)
    metadata[f"{prefix}vocab_size"] = (vocabulary, ValueType.UINT32, None)
    metadata["tokenizer.ggml.model"] = ("none", ValueType.STRING, None)
    return metadata


def _plain(
    value: Value, kind: ValueType, items: ValueType | None
) -> tuple[Value | list[Any], ValueType, ValueType | None]:
    """A value as the gguf package takes it."""
    if isinstance(value, StringArray):
        return list(value.raw()), kind, items
    if isinstance(value, np.ndarray):
        return value.tolist(), kind, items
    return value, kind, items


def _matrix_end(header: GgufHeader, facts: ModelFacts, kind: str) -> _Source:
    """What llama.cpp takes for both embedding table and head."""
    if kind == "trunk":
        return _made(EMBEDDING_TENSOR, np.zeros((1, facts.n_embd), np.float32))
    head = header.by_name.get(HEAD_TENSOR, header.by_name[EMBEDDING_TENSOR])
    if head.shape != (facts.n_embd, facts.n_vocab):
        raise CorruptModel(f"{header.name} is damaged: its head has another shape than its embedding table.")
    return _Source(EMBEDDING_TENSOR, head)


def _norm_end(header: GgufHeader, facts: ModelFacts, kind: str) -> _Source:
    if kind == "trunk":
        return _made(_NORM_TENSOR, np.ones(facts.n_embd, np.float32))
    norm = header.by_name.get(_NORM_TENSOR)
    if norm is None:
        raise CorruptModel(f"{header.name} is damaged: it has no final norm. Fetch or convert it again.")
    return _Source(_NORM_TENSOR, norm)


def _made(name: str, values: np.ndarray[Any, np.dtype[np.float32]]) -> _Source:
    info = TensorInfo(name, values.shape[::-1], GGMLQuantizationType.F32, 0, values.nbytes)
    return _Source(name, info, values.astype("<f4").tobytes())


def _layers(header: GgufHeader, rules: Architecture, key: ShardKey) -> Iterator[_Source]:
    """The tensors of the layers in range, renumbered from 0, and those that every shard needs."""
    known = {EMBEDDING_TENSOR, HEAD_TENSOR, _NORM_TENSOR}
    for info in header.tensors:
        place = layer_of(info.name)
        if place is not None:
            layer, name = place
            if key.first_layer <= layer < key.last_layer:
                yield _Source(f"blk.{layer - key.first_layer}.{name}", info)
        elif info.name in rules.model_wide_tensors:
            yield _Source(info.name, info)
        elif info.name not in known:
            raise UnsupportedModel(
                f"{header.name} cannot be cut: what its tensor {info.name!r} is for is not known. "
                "Run it whole on one node."
            )


def _write_header(path: Path, name: str, metadata: _Metadata, sources: list[_Source]) -> None:
    writer = GGUFWriter(path, name)
    try:
        for key, (value, kind, items) in metadata.items():
            if isinstance(value, list) and not value:
                continue  # the package cannot write an empty array, and it says nothing
            sub_type = None if items is None else GGUFValueType(items)
            writer.add_key_value(key, value, GGUFValueType(kind), sub_type)
        for source in sources:
            info = source.info
            writer.add_tensor_info(source.name, info.shape[::-1], np.dtype(np.float32), info.n_bytes, info.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT_DEFAULT) * ALIGNMENT_DEFAULT


def _write_weights(output: BinaryIO, model: BinaryIO, sources: list[_Source], progress: Progress) -> None:
    """Appends the tensors, each padded, in the order of the header."""
    total = sum(source.n_bytes for source in sources)
    done = 0
    output.write(bytes(_padded(output.tell()) - output.tell()))
    for source in sources:
        if source.content is not None:
            output.write(source.content)
            done += source.n_bytes
        else:
            for n_bytes in _copy(output, model, source.info):
                done += n_bytes
                progress(done / total)
        output.write(bytes(_padded(source.n_bytes) - source.n_bytes))


def _copy(output: BinaryIO, model: BinaryIO, info: TensorInfo) -> Iterator[int]:
    """Copies one tensor; yields the sizes of the pieces."""
    model.seek(info.offset)
    left = info.n_bytes
    while left:
        piece = model.read(min(left, COPY_CHUNK_BYTES))
        if not piece:
            raise CorruptModel("The model file became shorter while a shard was cut from it. Fetch it again.")
        output.write(piece)
        left -= len(piece)
        yield len(piece)
