"""What a model is, whoever holds it: digests of its headers and of every chunk of its tensors. Pure.

The digest of a model is the SHA-256 of its manifest, so whoever knows that digest can take any part of the model from
anybody and verify it: the manifest against the digest, a header and each chunk of weights against the manifest. Names
and shapes of the tensors stand in the headers. What lies between tensors in a file is no part of the model.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from peerinfer.errors import CorruptModel

CHUNK_BYTES: Final = 4 << 20
"""Weights that are verified together: what a bad or lost piece costs to fetch again (40 ms at 1 Gbit/s)."""
CHUNKS_MAX: Final = 1 << 20
"""4 TiB of weights, far more than a home holds; it bounds a manifest to 40 MB."""
TENSORS_MAX: Final = 65_536
"""Of all files of one model together."""
PARTS_MAX: Final = 1024
"""Files of one model; the largest real ones have fewer than 200."""
HEADER_MAX_BYTES: Final = 80 << 20
"""Of one file: the reader's limit for headers, and room for alignment."""
HEADERS_MAX_BYTES: Final = 160 << 20
"""Of all files of one model together, since a node fetches them into memory; real ones have about 20 MB."""
DIGEST_BYTES: Final = 32
MANIFEST_MAX_BYTES: Final = CHUNKS_MAX * DIGEST_BYTES + TENSORS_MAX * 8 + PARTS_MAX * 40 + 64

_MAGIC: Final = b"peerinfer model manifest 1\n"
_COUNT: Final = struct.Struct("<I")
_PART: Final = struct.Struct("<Q32s")


@dataclass(frozen=True, slots=True)
class PartHeader:
    """The header of one file of a model: all bytes before its weights."""

    n_bytes: int
    digest: bytes
    """SHA-256, 32 bytes."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one tensor that is verified as a whole."""

    number: int
    """Counted over all tensors."""
    tensor: int
    offset: int
    """In bytes from the start of the tensor."""
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The digests of one model. Tensors are numbered in the order of the files, and of their headers."""

    parts: tuple[PartHeader, ...]
    tensor_bytes: tuple[int, ...]
    """Size of each tensor; none is empty."""
    chunk_digests: bytes
    """The SHA-256 of each chunk, one after the other."""
    _firsts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises `CorruptModel` if numbers and digests do not go together."""
        if not 1 <= len(self.parts) <= PARTS_MAX or not 1 <= len(self.tensor_bytes) <= TENSORS_MAX:
            raise CorruptModel("A model manifest with no parts, no tensors, or too many. Fetch the model again.")
        if not all(0 < part.n_bytes <= HEADER_MAX_BYTES and len(part.digest) == DIGEST_BYTES for part in self.parts):
            raise CorruptModel("A model manifest with an impossible header. Fetch the model again.")
        if sum(part.n_bytes for part in self.parts) > HEADERS_MAX_BYTES:
            raise CorruptModel("A model manifest with headers over their limit. Fetch the model again.")
        if not all(0 < size <= CHUNKS_MAX * CHUNK_BYTES for size in self.tensor_bytes):
            raise CorruptModel("A model manifest with an impossible tensor. Fetch the model again.")
        firsts = tuple(accumulate((chunks_in(size) for size in self.tensor_bytes), initial=0))
        if firsts[-1] > CHUNKS_MAX or len(self.chunk_digests) != firsts[-1] * DIGEST_BYTES:
            raise CorruptModel("A model manifest with too few or too many digests. Fetch the model again.")
        object.__setattr__(self, "_firsts", firsts)

    @property
    def n_chunks(self) -> int:
        """Chunks of all tensors."""
        return self._firsts[-1]

    @property
    def n_bytes(self) -> int:
        """Weights of all tensors."""
        return sum(self.tensor_bytes)

    @property
    def digest(self) -> str:
        """What the model is: 64 hex digits."""
        return hashlib.sha256(encode_manifest(self)).hexdigest()

    def chunk(self, number: int) -> Chunk:
        """Where chunk `number` lies. Raises `IndexError` for a number that there is not."""
        if not 0 <= number < self.n_chunks:
            raise IndexError(number)
        tensor = bisect_right(self._firsts, number) - 1
        offset = (number - self._firsts[tensor]) * CHUNK_BYTES
        return Chunk(number, tensor, offset, min(CHUNK_BYTES, self.tensor_bytes[tensor] - offset))

    def chunks_of(self, tensor: int) -> range:
        """The numbers of the chunks of one tensor."""
        return range(self._firsts[tensor], self._firsts[tensor + 1])

    def is_chunk(self, number: int, content: bytes | bytearray | memoryview) -> bool:
        """Whether `content` is what chunk `number` must be."""
        start = number * DIGEST_BYTES
        return hashlib.sha256(content).digest() == self.chunk_digests[start : start + DIGEST_BYTES]


def chunks_in(n_bytes: int) -> int:
    """Number of chunks of a tensor of this size."""
    return -(-n_bytes // CHUNK_BYTES)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes whose SHA-256 names the model."""
    sizes = manifest.tensor_bytes
    return b"".join(
        (
            _MAGIC,
            _COUNT.pack(len(manifest.parts)),
            *(_PART.pack(part.n_bytes, part.digest) for part in manifest.parts),
            _COUNT.pack(len(sizes)),
            struct.pack(f"<{len(sizes)}Q", *sizes),
            manifest.chunk_digests,
        )
    )


def decode_manifest(data: bytes, digest: str) -> Manifest:
    """The manifest that `digest` names. Raises `CorruptModel` if `data` is not it, before anything is read."""
    if len(data) > MANIFEST_MAX_BYTES or hashlib.sha256(data).hexdigest() != digest:
        raise CorruptModel(f"The manifest of the model {digest[:12]} is damaged. Fetch it again.")
    try:
        place = len(_MAGIC)
        if data[:place] != _MAGIC:
            raise ValueError
        (n_parts,) = _COUNT.unpack_from(data, place)
        place += _COUNT.size
        if n_parts > PARTS_MAX:
            raise ValueError
        parts = tuple(PartHeader(*_PART.unpack_from(data, place + number * _PART.size)) for number in range(n_parts))
        place += n_parts * _PART.size
        (n_tensors,) = _COUNT.unpack_from(data, place)
        place += _COUNT.size
        if n_tensors > TENSORS_MAX:
            raise ValueError
        sizes: Sequence[int] = struct.unpack_from(f"<{n_tensors}Q", data, place)
        return Manifest(parts, tuple(sizes), data[place + 8 * n_tensors :])
    except (struct.error, ValueError):
        raise CorruptModel(f"The manifest of the model {digest[:12]} is malformed. Fetch it again.") from None
