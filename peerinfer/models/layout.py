"""Where every byte of a shard file comes from, computed in a child from the model's header. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.errors import CorruptModel

LAYOUT_MAX_BYTES = 1 << 46
"""64 TiB: no shard is larger; above, sums could leave the numbers of a file system."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of a shard file."""

    offset: int
    """In bytes from the start of the shard file."""
    n_bytes: int
    tensor: int
    """Number of the model's tensor (see `manifest.py`) that stands here, or -1 for one that is made up."""
    content: bytes = b""
    """The bytes of a made-up one."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A shard file: its header, then pieces in order, with zeros between them."""

    head: bytes
    n_bytes: int
    """Size of the whole file."""
    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        """Raises `CorruptModel` if pieces overlap or leave the file: it is a child's word."""
        end = len(self.head)
        for piece in self.pieces:
            is_made = piece.tensor < 0
            if piece.offset < end or piece.n_bytes < 1 or is_made != bool(piece.content):
                raise CorruptModel("The plan of a shard file contradicts itself. Load the model again.")
            if is_made and len(piece.content) != piece.n_bytes:
                raise CorruptModel("The plan of a shard file contradicts itself. Load the model again.")
            end = piece.offset + piece.n_bytes
        if not end <= self.n_bytes <= LAYOUT_MAX_BYTES:
            raise CorruptModel("The plan of a shard file contradicts itself. Load the model again.")
