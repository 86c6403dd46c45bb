"""From a plan of a shard (`shard_writer.py`) to its layout: the header's bytes, and the place of each tensor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFValueType, GGUFWriter

from peerinfer.models.architecture_rules import Entry
from peerinfer.models.gguf import ALIGNMENT_DEFAULT, GgufHeader, ValueType
from peerinfer.models.layout import Layout, Piece
from peerinfer.models.shard_writer import ShardPlan, plan_embedding, plan_stage, plan_vocabulary, plan_whole
from peerinfer.models.shards import ShardKey


def layout_for(header: GgufHeader, key: ShardKey) -> Layout:
    """The layout of the shard `key` of the model with this header.

    Raises `UnsupportedModel` if there may be no such shard, `CorruptModel` for contradictions.
    """
    if key.kind == "vocab":
        plan = plan_vocabulary(header)
    elif key.kind == "embedding":
        plan = plan_embedding(header)
    elif key.kind == "whole":
        plan = plan_whole(header)
    else:
        plan = plan_stage(header, key.first_layer, key.last_layer, key.kind)
    return _layout(plan, header)


def _layout(plan: ShardPlan, header: GgufHeader) -> Layout:
    numbers = {info.name: number for number, info in enumerate(header.tensors)}
    head = header_bytes(plan)
    head += bytes(padded(len(head)) - len(head))
    pieces: list[Piece] = []
    end = len(head)
    for source in plan.sources:
        tensor = -1 if source.content is not None else numbers[source.info.name]
        pieces.append(Piece(end, source.info.n_bytes, tensor, source.content or b""))
        end += padded(source.info.n_bytes)
    return Layout(head, end, tuple(pieces))


def header_bytes(plan: ShardPlan) -> bytes:
    """The header of the file that the plan is of, by the package's writer, which wants a file."""
    with tempfile.TemporaryDirectory(prefix="peerinfer-") as folder:
        path = Path(folder) / "head"
        writer = GGUFWriter(path, plan.architecture)
        try:
            for key, (value, kind, items) in _writable(plan):
                writer.add_key_value(key, value, GGUFValueType(kind), None if items is None else GGUFValueType(items))
            for source in plan.sources:
                info = source.info
                writer.add_tensor_info(source.name, info.shape[::-1], np.dtype(np.float32), info.n_bytes, info.type)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        return path.read_bytes()


def _writable(plan: ShardPlan) -> Iterator[tuple[str, Entry]]:
    """The metadata but empty arrays, which the package cannot write; they say nothing."""
    for key, entry in plan.metadata.items():
        if entry[1] is not ValueType.ARRAY or entry[0]:
            yield key, entry


def padded(n_bytes: int) -> int:
    """Bytes up to where the next tensor starts."""
    return -(-n_bytes // ALIGNMENT_DEFAULT) * ALIGNMENT_DEFAULT
