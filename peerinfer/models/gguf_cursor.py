"""Reads the header of a GGUF file forwards, never past the file or the limits."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from peerinfer.errors import CorruptModel, UnsupportedModel

STRING_MAX_BYTES = 1 << 20
"""One text value; the longest real ones are chat templates of about 100 kB."""
ARRAY_MAX_ITEMS = 1 << 24
"""Items of one array; the largest real vocabularies have about 2^18 tokens and twice as many merges."""
STRINGS_MAX_ITEMS = 1 << 21
"""Items of all text arrays together, because they are walked one by one; the largest real ones have 2^20."""
TEXTS_MAX_BYTES = 16 << 20
"""All texts outside arrays together: decoded, four bytes may become of one. Real files have below 1 MB."""
HEADER_MAX_BYTES = 64 << 20
"""The whole header; real ones are below 20 MB. It bounds the memory of a parse."""
READ_CHUNK_BYTES = 256 << 10
"""Least number of bytes read from the file at once."""

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class StringArray(Sequence[str]):
    """A text array whose items are decoded when one is first asked for; vocabularies are large, facts need none."""

    __slots__ = ("_count", "_items", "_packed")

    def __init__(self, packed: bytes, count: int) -> None:
        self._packed = packed
        self._count = count
        self._items: tuple[bytes, ...] | None = None

    def raw(self) -> tuple[bytes, ...]:
        """The items as the bytes that stand in the file."""
        if self._items is None:
            items: list[bytes] = []
            position = 0
            for _ in range(self._count):
                (length,) = _U64.unpack_from(self._packed, position)
                items.append(self._packed[position + 8 : position + 8 + length])
                position += 8 + length
            self._items = tuple(items)
        return self._items

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (item.decode("utf-8", "replace") for item in self.raw())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(item.decode("utf-8", "replace") for item in self.raw()[index])
        return self.raw()[index].decode("utf-8", "replace")


class HeaderCursor:
    """A position in the header of `file`, which is `file_bytes` long and called `name` in errors."""

    def __init__(self, file: BinaryIO, file_bytes: int, name: str) -> None:
        self.name = name
        self.position = 0
        self.file_bytes = file_bytes
        self._file = file
        self._buffer = bytearray()
        self._buffer_start = 0
        self._strings = 0
        self._text_bytes = 0

    def corrupt(self, what: str) -> CorruptModel:
        """The error that says `what` is wrong with this file."""
        return CorruptModel(f"{self.name} is damaged: {what}. Fetch or convert it again.")

    def unsupported(self, what: str) -> UnsupportedModel:
        """The error that says why this file is valid but cannot be used."""
        return UnsupportedModel(f"{self.name} cannot be used: {what}.")

    def u32(self) -> int:
        """The next unsigned 32-bit number."""
        return int(self.numbers_as(_U32)[0])

    def u64(self) -> int:
        """The next unsigned 64-bit number."""
        return int(self.numbers_as(_U64)[0])

    def numbers_as(self, form: struct.Struct) -> tuple[int, ...]:
        """The next few whole numbers, as `form` has them."""
        end = self.position + form.size
        if end - self._buffer_start > len(self._buffer):
            self._load(end)
        numbers = form.unpack_from(self._buffer, self.position - self._buffer_start)
        self.position = end
        return numbers

    def take(self, n_bytes: int) -> bytes:
        """The next `n_bytes` bytes."""
        end = self.position + n_bytes
        self._load(end)
        here = slice(self.position - self._buffer_start, end - self._buffer_start)
        self.position = end
        if n_bytes <= READ_CHUNK_BYTES:
            return bytes(self._buffer[here])
        with memoryview(self._buffer) as view:  # a slice of the buffer itself would be one more copy of much
            return bytes(view[here])

    def string(self, limit: int = STRING_MAX_BYTES) -> bytes:
        """The next text, as its bytes, of which there are at most `limit`."""
        length = self.u64()
        if length > limit:
            raise self.corrupt(f"a text of {length} bytes is over the limit of {limit}")
        self._text_bytes += length
        if self._text_bytes > TEXTS_MAX_BYTES:
            raise self.corrupt(f"its texts together are over the limit of {TEXTS_MAX_BYTES} bytes")
        return self.take(length)

    def count(self, limit: int, what: str, item_bytes: int) -> int:
        """The next number of `what`, each at least `item_bytes` long: checked against `limit` and what is left."""
        count = self.u64()
        if count > limit:
            raise self.corrupt(f"{count} {what} are over the limit of {limit}")
        if count * item_bytes > self.file_bytes - self.position:
            raise self.corrupt(f"it ends before its {count} {what}")
        return count

    def numbers(self, dtype: np.dtype[np.generic], count: int) -> npt.NDArray[np.generic]:
        """The next `count` numbers, read-only."""
        return np.frombuffer(self.take(count * dtype.itemsize), dtype=dtype)

    def strings(self, count: int) -> StringArray:
        """The next `count` texts, checked but not decoded."""
        self._strings += count
        if self._strings > STRINGS_MAX_ITEMS:
            raise self.corrupt(f"its text arrays have more than {STRINGS_MAX_ITEMS} items")
        self._forget()
        buffer, length_at = self._buffer, _U64.unpack_from  # found once, for this loop may run two million times
        index, end = 0, len(buffer)
        for _ in range(count):
            if index + 8 > end:
                self._load(self.position + index + 8)
                end = len(buffer)
            (length,) = length_at(buffer, index)
            if length > STRING_MAX_BYTES:
                raise self.corrupt(f"a text of {length} bytes is over the limit of {STRING_MAX_BYTES}")
            index += 8 + length
        return StringArray(self.take(index), count)

    def _forget(self) -> None:
        """Drops what was taken from the buffer, so that it stands in memory but once."""
        del self._buffer[: self.position - self._buffer_start]
        self._buffer_start = self.position

    def _load(self, end: int) -> None:
        """Has the bytes of the file from here to `end`, at least, in the buffer."""
        if end - self._buffer_start <= len(self._buffer):
            return
        self._forget()
        missing = end - self._buffer_start - len(self._buffer)
        if end > self.file_bytes:
            raise self.corrupt(f"it ends at byte {self.file_bytes}, in the middle of its header")
        if end > HEADER_MAX_BYTES:
            raise self.corrupt(f"its header is over the limit of {HEADER_MAX_BYTES} bytes")
        self._buffer += self._file.read(max(missing, READ_CHUNK_BYTES))
        if end - self._buffer_start > len(self._buffer):
            raise self.corrupt("it became shorter while it was read")
