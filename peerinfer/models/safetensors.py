"""The bounded reader of safetensors headers: which tensors a file has and where they lie, checked in every number.

Format: https://huggingface.co/docs/safetensors (8 bytes with the length of a JSON header, the header, the numbers).
Nobody vouches for such a file: anything wrong is `CorruptModel`, and the work is bounded by the limits here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, Final, cast

from peerinfer.errors import CorruptModel, ModelError, UnsupportedModel
from peerinfer.names import clean_name

HEADER_MAX_BYTES: Final = 32 << 20
"""Real headers are below 1 MB. It bounds the memory of a parse, to some forty times as much."""
TENSORS_MAX: Final = 65_536
"""Of one file, and of one model; the largest real models have a few thousand."""
NAME_MAX_BYTES: Final = 256
"""Of a tensor; real names have fewer than 100."""
DIMENSIONS_MAX: Final = 8
"""Real tensors have up to five."""
DIMENSION_MAX: Final = 1 << 40
"""Products of eight of these are still quick to compute."""
DTYPE_BYTES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of a number of each type that fills whole bytes."""
_QUOTED_MAX_CHARACTERS: Final = 64
_LENGTH_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies."""

    name: str
    dtype: str
    """As the format spells it: `BF16`, `U32` …"""
    shape: tuple[int, ...]
    """Rows first."""
    path: Path
    offset: int
    """In bytes from the start of the file."""
    n_bytes: int


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of the file at `path`, by name.

    Raises `CorruptModel`, `UnsupportedModel` for a type of number that is not known, or `ModelError` if the file cannot
    be read at all.
    """
    shown = clean_name(path.name)
    try:
        if not S_ISREG(path.stat().st_mode):  # to open a pipe would wait for whoever writes to it
            raise ModelError(f"{shown} is no file. Name the folder of a whole model.")
        with path.open("rb") as file:
            return _parse(file, file.seek(0, 2), path)
    except OSError as error:
        raise ModelError(f"{shown} cannot be read ({error.strerror}). Check the file and its permissions.") from None


def _parse(file: BinaryIO, file_bytes: int, path: Path) -> dict[str, StoredTensor]:
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if file_bytes < _LENGTH_BYTES or start > file_bytes:
        raise damaged(path, "it ends within its header")
    if length > HEADER_MAX_BYTES:
        raise damaged(path, f"its header claims {length} bytes, over the limit of {HEADER_MAX_BYTES}")
    raw = file.read(length)
    try:
        header: object = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # a number of too many digits is a ValueError, too
        raise damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a JSON object")
    entries = cast("dict[str, Any]", header)
    entries.pop("__metadata__", None)
    if len(entries) > TENSORS_MAX:
        raise damaged(path, f"it claims {len(entries)} tensors, over the limit of {TENSORS_MAX}")
    return {name: _tensor(name, entry, path, start, file_bytes) for name, entry in entries.items()}


def _tensor(name: str, entry: object, path: Path, start: int, file_bytes: int) -> StoredTensor:
    if not name.isprintable() or not 0 < len(name.encode("utf-8", "replace")) <= NAME_MAX_BYTES:
        raise damaged(path, f"the name of a tensor is empty, not printable, or has over {NAME_MAX_BYTES} bytes")
    told = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    dtype, shape, span = told.get("dtype"), _sizes(told.get("shape")), _sizes(told.get("data_offsets"))
    if not isinstance(dtype, str):
        raise damaged(path, f"its entry for {_quoted(name)} has no type")
    if (
        shape is None
        or span is None
        or len(span) != 2
        or len(shape) > DIMENSIONS_MAX
        or max(shape, default=0) > DIMENSION_MAX
    ):
        raise damaged(path, f"its tensor {_quoted(name)} has a shape or a place that cannot be")
    if dtype not in DTYPE_BYTES:
        raise UnsupportedModel(
            f"{clean_name(path.name)} has numbers of the type {_quoted(dtype)}, which peerinfer does not know. "
            "Take another version of the model."
        )
    first, last = span
    if last < first or start + last > file_bytes:
        raise damaged(path, f"its tensor {_quoted(name)} does not lie inside the file")
    if prod(shape) * DTYPE_BYTES[dtype] != last - first:
        raise damaged(path, f"its tensor {_quoted(name)} has more or less bytes than its shape says")
    return StoredTensor(name, dtype, tuple(shape), path, start + first, last - first)


def _sizes(values: object) -> list[int] | None:
    """The numbers ≥ 0 of a list; None if it is no list, or holds anything else."""
    items = cast("list[object]", values) if isinstance(values, list) else [None]
    sizes = [item for item in items if isinstance(item, int) and not isinstance(item, bool) and item >= 0]
    return sizes if len(sizes) == len(items) else None


def damaged(path: Path, what: str) -> CorruptModel:
    """The error for a file of a model that is not what it should be."""
    return CorruptModel(f"{clean_name(path.name)} is damaged: {what}. Fetch it again.")


def _quoted(name: str) -> str:
    return repr(name[:_QUOTED_MAX_CHARACTERS])
