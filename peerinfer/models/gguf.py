"""The bounded GGUF reader: the header of a model file that nobody vouches for, checked in every number.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Nothing native and no other parser sees a file
before this one has passed it. Anything wrong is `CorruptModel` (damaged or hostile) or `UnsupportedModel` (valid, but
not for us); the work is bounded by the limits here and in `gguf_cursor.py`, whatever the file says.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from peerinfer.errors import CorruptModel, ModelError
from peerinfer.models.gguf_cursor import ARRAY_MAX_ITEMS, HeaderCursor, StringArray
from peerinfer.names import clean_name

KEYS_MAX = 65_536
"""Metadata keys; real files have fewer than 100."""
TENSORS_MAX = 65_536
"""Tensors; the largest real models have a few thousand."""
TENSOR_NAME_MAX_BYTES = 63
"""GGML_MAX_NAME of ggml.h, less its final zero."""
DIMENSIONS_MAX = 4
"""GGML_MAX_DIMS of ggml.h."""
KEY_MAX_BYTES = 65_535
"""The format allows no longer keys."""
INTEGER_MAX = (1 << 32) - 1
"""llama.cpp keeps hyper-parameters in 32 bits; products of a few of these fit every message and engine."""
QUOTED_MAX_CHARACTERS = 64
"""A name from the file is cut to this many in a sentence."""
ALIGNMENT_DEFAULT = 32
"""Used by files that do not name one (GGUF_DEFAULT_ALIGNMENT)."""
ALIGNMENT_MIN = 8
"""The format wants a multiple of 8, so that no number lies across a boundary that a processor minds."""
ALIGNMENT_MAX = 65_536
"""A memory page of the largest kind in use; no file needs more."""
TENSOR_MAX_BYTES = 1 << 62
"""Products above this would overflow the numbers of native code."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_TENSOR_FORMS = {n: struct.Struct(f"<{n}QIQ") for n in range(1, DIMENSIONS_MAX + 1)}
"""What follows the number of dimensions of a tensor: shape, type, offset."""
_TENSOR_TYPES = {int(kind): (kind, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
"""Each type by its number in the file, with the numbers and the bytes of one block."""
_KEY_MIN_BYTES = 8 + 1 + 4 + 1
_TENSOR_MIN_BYTES = 8 + 1 + 4 + 8 + 4 + 8


class ValueType(IntEnum):
    """Type of a metadata value, numbered as in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_DTYPES: dict[ValueType, np.dtype[np.generic]] = {
    ValueType.UINT8: np.dtype("<u1"),
    ValueType.INT8: np.dtype("<i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("<u1"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}

Value = bool | int | float | str | StringArray | npt.NDArray[np.generic]
"""A metadata value; arrays of numbers are read-only numpy arrays."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies in the file, and how it is coded."""

    name: str
    shape: tuple[int, ...]
    """Sizes in the file's order: the length of a row first."""
    type: GGMLQuantizationType
    offset: int
    """Absolute, in bytes from the start of the file."""
    n_bytes: int
    part: int = 0
    """Which file of a model in several parts it lies in, counted from 0."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """All that a GGUF file says before its weights."""

    name: str
    """File name, for errors."""
    metadata: Mapping[str, Value]
    types: Mapping[str, tuple[ValueType, ValueType | None]]
    """For each key the type of its value and, for an array, of its items."""
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    """Where the weights start, in bytes from the start of the file."""
    file_bytes: int
    by_name: Mapping[str, TensorInfo] = field(repr=False)

    def text(self, key: str) -> str:
        """The text under `key`. Raises `CorruptModel` if it is missing or something else."""
        value = self.metadata.get(key)
        if not isinstance(value, str):
            raise CorruptModel(f"{self.name} is damaged: it has no text {_quoted(key)}. Fetch or convert it again.")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number 0 … `INTEGER_MAX` under `key`, or `default`. Raises `CorruptModel` if there is none."""
        value = self.metadata.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INTEGER_MAX:
            return value
        raise CorruptModel(
            f"{self.name} is damaged: it has no whole number {_quoted(key)} from 0 to {INTEGER_MAX}. "
            "Fetch or convert it again."
        )


def _quoted(name: str) -> str:
    return repr(name[:QUOTED_MAX_CHARACTERS])


def read_header(path: Path) -> GgufHeader:
    """The header of the model file at `path`.

    Raises `CorruptModel`, `UnsupportedModel`, or another `ModelError` if the file cannot be read at all.
    """
    name = clean_name(path.name)  # it stands in sentences that a terminal shows
    try:
        if not S_ISREG(path.stat().st_mode):  # to open a pipe would wait for whoever writes to it
            raise ModelError(f"{name} is no file. Name a GGUF file.")
        with path.open("rb") as file:
            return parse_header(file, file.seek(0, 2), name)
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error.strerror}). Check the file and its permissions.") from None


def parse_header(file: BinaryIO, file_bytes: int, name: str = "the file") -> GgufHeader:
    """The header at the start of `file`, which is `file_bytes` long; `name` is used in errors."""
    file.seek(0)
    cursor = HeaderCursor(file, file_bytes, name)
    _check_version(cursor)
    n_tensors = cursor.count(TENSORS_MAX, "tensors", _TENSOR_MIN_BYTES)
    n_keys = cursor.count(KEYS_MAX, "keys", _KEY_MIN_BYTES)
    metadata: dict[str, Value] = {}
    types: dict[str, tuple[ValueType, ValueType | None]] = {}
    for _ in range(n_keys):
        key = _name(cursor, "a key", KEY_MAX_BYTES)
        if key in metadata:
            raise cursor.corrupt(f"the key {_quoted(key)} stands in it twice")
        metadata[key], types[key] = _value(cursor)
    alignment = _alignment(cursor, metadata, types)
    relative: dict[str, TensorInfo] = {}
    for _ in range(n_tensors):
        tensor = _tensor(cursor, alignment)
        if tensor.name in relative:
            raise cursor.corrupt(f"the tensor {tensor.name!r} stands in it twice")
        relative[tensor.name] = tensor
    data_offset = -(-cursor.position // alignment) * alignment
    tensors = _placed(cursor, tuple(relative.values()), data_offset)
    by_name = {tensor.name: tensor for tensor in tensors}
    return GgufHeader(name, metadata, types, tensors, alignment, data_offset, file_bytes, by_name)


def _check_version(cursor: HeaderCursor) -> None:
    if cursor.take(4) != _MAGIC:
        raise cursor.corrupt("it is not a GGUF file")
    version = cursor.u32()
    if version in _VERSIONS:
        return
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *_VERSIONS):
        raise cursor.unsupported("it is a big-endian GGUF file; convert the model for little-endian machines")
    if version == 1:
        raise cursor.unsupported("it is a GGUF file of version 1, which is too old; convert the model again")
    raise cursor.unsupported(f"GGUF version {version} is unknown to this peerinfer; a newer one may read it")


def _name(cursor: HeaderCursor, what: str, max_bytes: int) -> str:
    try:
        text = cursor.string(max_bytes).decode("utf-8")
    except UnicodeDecodeError:
        raise cursor.corrupt(f"{what} is not UTF-8 text") from None
    if not text or "\0" in text:
        raise cursor.corrupt(f"{what} is empty or has a zero in it")
    return text


def _value_type(cursor: HeaderCursor) -> ValueType:
    number = cursor.u32()
    try:
        return ValueType(number)
    except ValueError:
        raise cursor.corrupt(f"{number} is no type of a value") from None


def _value(cursor: HeaderCursor) -> tuple[Value, tuple[ValueType, ValueType | None]]:
    kind = _value_type(cursor)
    if kind is ValueType.STRING:
        return cursor.string().decode("utf-8", "replace"), (kind, None)
    if kind is not ValueType.ARRAY:
        number = _numbers(cursor, kind, 1)[0].item()
        return number, (kind, None)
    items = _value_type(cursor)
    if items is ValueType.ARRAY:
        raise cursor.unsupported("it has an array of arrays, which no known model has")
    if items is ValueType.STRING:
        return cursor.strings(cursor.count(ARRAY_MAX_ITEMS, "items of an array", 8)), (kind, items)
    count = cursor.count(ARRAY_MAX_ITEMS, "items of an array", _DTYPES[items].itemsize)
    return _numbers(cursor, items, count), (kind, items)


def _numbers(cursor: HeaderCursor, kind: ValueType, count: int) -> npt.NDArray[np.generic]:
    numbers = cursor.numbers(_DTYPES[kind], count)
    if kind is not ValueType.BOOL:
        return numbers
    if (numbers.view(np.uint8) > 1).any():
        raise cursor.corrupt("a truth value is neither 0 nor 1")
    return numbers.view(np.bool_)


def _alignment(
    cursor: HeaderCursor, metadata: Mapping[str, Value], types: Mapping[str, tuple[ValueType, ValueType | None]]
) -> int:
    value = metadata.get("general.alignment", ALIGNMENT_DEFAULT)
    kind = types.get("general.alignment", (ValueType.UINT32, None))[0]
    if kind is not ValueType.UINT32 or not isinstance(value, int):
        raise cursor.corrupt("its alignment is not a 32-bit number")
    if not ALIGNMENT_MIN <= value <= ALIGNMENT_MAX or value & (value - 1):
        raise cursor.corrupt(f"its alignment {value} is no power of two from {ALIGNMENT_MIN} to {ALIGNMENT_MAX}")
    return value


def _tensor(cursor: HeaderCursor, alignment: int) -> TensorInfo:
    """The next tensor, with its offset as the file has it: from the start of the weights."""
    name = _name(cursor, "the name of a tensor", TENSOR_NAME_MAX_BYTES)
    n_dimensions = cursor.u32()
    form = _TENSOR_FORMS.get(n_dimensions)
    if form is None:
        raise cursor.corrupt(f"the tensor {name!r} has {n_dimensions} dimensions")
    *sizes, number, offset = cursor.numbers_as(form)
    known = _TENSOR_TYPES.get(number)
    if known is None:
        raise cursor.unsupported(f"the type {number} of its tensor {name!r} is unknown to this peerinfer")
    kind, block_items, block_bytes = known
    if 0 in sizes or sizes[0] % block_items:
        raise cursor.corrupt(f"the tensor {name!r} has a shape that its type {kind.name} cannot have")
    n_items = prod(sizes)
    n_bytes = n_items // block_items * block_bytes
    if n_bytes > TENSOR_MAX_BYTES or n_items > TENSOR_MAX_BYTES:
        raise cursor.corrupt(f"the size of the tensor {name!r} overflows")
    if offset % alignment:
        raise cursor.corrupt(f"the tensor {name!r} does not start at a multiple of {alignment} bytes")
    return TensorInfo(name, tuple(sizes), kind, offset, n_bytes)


def _placed(cursor: HeaderCursor, relative: tuple[TensorInfo, ...], data_offset: int) -> tuple[TensorInfo, ...]:
    """The tensors with absolute offsets, all inside the file and apart from each other."""
    tensors = tuple(TensorInfo(t.name, t.shape, t.type, data_offset + t.offset, t.n_bytes) for t in relative)
    end = data_offset
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise cursor.corrupt(f"the tensor {tensor.name!r} overlaps another one")
        end = tensor.offset + tensor.n_bytes
        if end > cursor.file_bytes:
            raise cursor.corrupt(f"it ends at byte {cursor.file_bytes}, before the end of its tensor {tensor.name!r}")
    return tensors
