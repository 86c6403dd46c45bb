"""The child process that reads model files nobody vouches for: it tells facts, and plans shards, as plain values.

Calls: `INSPECT` gives an `Inspection`, `LAYOUT` a `Layout`. Both name files of one model in order: the model files
themselves, or files that hold just their headers. The host is `inspector.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from peerinfer.errors import ModelError
from peerinfer.models.facts import EMBEDDING_TENSOR, ModelFacts, model_facts
from peerinfer.models.gguf import GgufHeader, parse_header, read_header
from peerinfer.models.layout_writer import layout_for
from peerinfer.models.parts import merge_headers
from peerinfer.models.shards import ShardKey
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.process.inside import Emit, Part

INSPECT: Final = 1
LAYOUT: Final = 2
CALL_MAX_BYTES: Final = 1 << 20
CLAIMED_BYTES: Final = 1 << 62
"""Taken for the size of a file of which only the header is here."""


@dataclass(frozen=True, slots=True)
class Question:
    """`INSPECT`: these files of one model."""

    paths: tuple[str, ...]
    is_header_only: bool


@dataclass(frozen=True, slots=True)
class WantedLayout:
    """`LAYOUT`: of this shard of that model."""

    model: Question
    key: ShardKey


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model's headers say."""

    facts: ModelFacts
    header_bytes: tuple[int, ...]
    """Size of each file's header: where its weights begin."""
    tensors: bytes
    """int64 rows (file, offset in the file, size in bytes), one for each tensor in order."""
    embedding_part: int
    """The file with the embedding table."""


class InspectionService:
    """Answers one call after the other."""

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:  # noqa: ARG002
        """One call."""
        request = unpack(body, CALL_MAX_BYTES)
        if kind == INSPECT:
            return [pack(pack_fields(inspect(unpack_fields(Question, request))))]
        wanted = unpack_fields(WantedLayout, request)
        return [pack(pack_fields(layout_for(merge_headers(_headers(wanted.model)), wanted.key)))]


def inspect(question: Question) -> Inspection:
    """The facts of the model in these files. Raises `ModelError`."""
    headers = _headers(question)
    merged = merge_headers(headers)
    facts = model_facts(merged)
    rows = np.array([(info.part, info.offset, info.n_bytes) for info in merged.tensors], np.int64)
    part = merged.by_name[EMBEDDING_TENSOR].part
    return Inspection(facts, tuple(header.data_offset for header in headers), rows.tobytes(), part)


def _headers(question: Question) -> list[GgufHeader]:
    paths = [Path(path) for path in question.paths]
    if not question.is_header_only:
        return [read_header(path) for path in paths]
    headers: list[GgufHeader] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                headers.append(parse_header(file, CLAIMED_BYTES, path.name))
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read ({error.strerror}). Load the model again.") from None
    return headers


def open_service() -> InspectionService:
    """The service of a fresh child."""
    return InspectionService()
