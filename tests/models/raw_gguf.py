"""Builds GGUF files by hand, right or wrong in any field."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

U32, BOOL, STRING, ARRAY = 4, 7, 8, 9


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def u32(number: int) -> bytes:
    """A value of type uint32."""
    return struct.pack("<II", U32, number)


def key(name: str | bytes, value: bytes) -> bytes:
    """A key and its value, which starts with its type."""
    return text(name) + value


def tensor(name: str | bytes, shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    """The description of a tensor; type 0 is float32, so the default one has 32 bytes."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@dataclass
class RawGguf:
    """The parts of a file. Counts follow the parts unless they are given."""

    magic: bytes = b"GGUF"
    version: int = 3
    keys: list[bytes] = field(
        default_factory=lambda: [key("general.architecture", struct.pack("<I", 8) + text("llama"))]
    )
    tensors: list[bytes] = field(default_factory=lambda: [tensor("a"), tensor("b", offset=32)])
    n_tensors: int | None = None
    n_keys: int | None = None
    data: bytes = bytes(64)

    def to_bytes(self) -> bytes:
        """The file."""
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.keys) if self.n_keys is None else self.n_keys
        header = self.magic + struct.pack("<IQQ", self.version, n_tensors, n_keys)
        header += b"".join(self.keys) + b"".join(self.tensors)
        return header + bytes(-len(header) % 32) + self.data
