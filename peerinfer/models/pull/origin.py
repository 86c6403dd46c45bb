"""Pieces of a model from the hub, where no node gives them: what to ask for, and the child that asks.

Only those who know the manifest can use a piece: it is verified like one from a peer. So somebody in the house must
have had the whole file once; the hub itself tells the digest of whole files only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peerinfer.errors import BadFrame, BadRequest
from peerinfer.models.pull.reference import HubReference, parse_reference
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack

ORIGIN_MAX_BYTES: Final = 512 * 1024
"""A model of a thousand files."""
PIECE_MAX_BYTES: Final = 64 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class OriginFile:
    """One file of a model, at one commit of its repository."""

    owner: str
    repo: str
    commit: str
    """40 hex digits: what is there never changes."""
    file: str

    def __post_init__(self) -> None:
        """Raises `ValueError` for anything that the hub does not name so: it may come from a peer."""
        try:
            parsed = parse_reference(f"hf:{self.owner}/{self.repo}/{self.file}")
        except BadRequest as error:
            raise ValueError(str(error)) from None
        if parsed != HubReference(self.owner, self.repo, "", self.file) or not _COMMIT.fullmatch(self.commit):
            raise ValueError("a file that no hub has")


@dataclass(frozen=True, slots=True)
class Origin:
    """All files of a model, in order."""

    files: tuple[OriginFile, ...]


@dataclass(frozen=True, slots=True)
class PieceQuestion:
    """A range of one file; what a child answers with its bytes."""

    file: OriginFile
    offset: int
    n_bytes: int

    def __post_init__(self) -> None:
        """Raises `ValueError` for a range that cannot be."""
        if self.offset < 0 or not 0 < self.n_bytes <= PIECE_MAX_BYTES:
            raise ValueError("a range that cannot be")


def origin_of(source: str, paths: Sequence[Path]) -> Origin | None:
    """Where the files of a pulled model come from, by their places in the hub's cache; None if that is not known."""
    try:
        parsed = parse_reference(source) if source.startswith("hf:") else None
    except BadRequest:
        return None
    if not isinstance(parsed, HubReference):
        return None
    files: list[OriginFile] = []
    for path in paths:
        parts = path.parts
        if "snapshots" not in parts:
            return None
        place = len(parts) - 1 - parts[::-1].index("snapshots")
        try:
            files.append(OriginFile(parsed.owner, parsed.repo, parts[place + 1], "/".join(parts[place + 2 :])))
        except (ValueError, IndexError):
            return None
    return Origin(tuple(files))


def encode_origin(origin: Origin) -> bytes:
    """Its bytes, for a file or a peer."""
    return pack(pack_fields(origin))


def decode_origin(data: bytes) -> Origin | None:
    """The origin in `data`; None if that is none."""
    try:
        return unpack_fields(Origin, unpack(data, ORIGIN_MAX_BYTES))
    except (ValueError, BadFrame):
        return None
