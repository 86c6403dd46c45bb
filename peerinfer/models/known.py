"""Digest and facts of model files, found out once for each state of the files and remembered on disk."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from peerinfer.errors import HomeError, PeerinferError
from peerinfer.models.atomic import replacing
from peerinfer.models.facts import ModelFacts
from peerinfer.net.messages import pack_fields, unpack_fields

KNOWN_MAX: Final = 4096
"""Remembered models; the oldest give way. More than a disk of models, few enough to read in a moment."""
KNOWN_MAX_BYTES: Final = 32 << 20
"""A file above this is not ours, and is not read."""
FORMAT: Final = 2
"""Raised when facts or digests come to mean something else: then all is found out anew."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's content does."""

    size_bytes: int
    modified_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the files of one model are."""

    states: tuple[FileState, ...]
    digest: str
    facts: ModelFacts


def file_state(path: Path) -> FileState:
    """The present state of the file at `path`. Raises `OSError`."""
    status = path.stat()
    return FileState(status.st_size, status.st_mtime_ns, status.st_ino)


class KnownModels:
    """Kept in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)

    def get(self, paths: Sequence[Path], states: Sequence[FileState]) -> Known | None:
        """What is known of these files in this state."""
        known = self._known.get(_key(paths))
        return known if known is not None and known.states == tuple(states) else None

    def put(self, paths: Sequence[Path], known: Known) -> None:
        """Remembers what these files are. Blocks on the disk."""
        self._known.pop(_key(paths), None)
        self._known[_key(paths)] = known
        for key in list(self._known)[:-KNOWN_MAX]:
            del self._known[key]
        rows = {key: pack_fields(each) for key, each in self._known.items()}
        with contextlib.suppress(HomeError), replacing(self._path) as partial:  # what is not kept costs time, no more
            partial.write_text(json.dumps({"format": FORMAT, "known": rows}), encoding="utf-8")


def _key(paths: Sequence[Path]) -> str:
    return "\n".join(str(path) for path in paths)


def _read(path: Path) -> dict[str, Known]:
    """What the file says; nothing if it is missing, or not what we write."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, PeerinferError):
        if path.stat().st_size > KNOWN_MAX_BYTES:
            return {}
        raw = cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
        if raw["format"] == FORMAT:
            return {str(key): unpack_fields(Known, row) for key, row in raw["known"].items()}
    return {}
