"""The SHA-256 of model files, computed once for each state of a file and remembered on disk."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from peerinfer.errors import HomeError, ModelError
from peerinfer.models.atomic import replacing

CACHE_MAX_FILES = 4096
"""Remembered files; the oldest give way. More than a disk of models, few enough to read in a moment."""
CACHE_MAX_BYTES = 4 << 20
"""A cache file above this is not ours, and is not read."""
_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file's content does."""

    size_bytes: int
    modified_ns: int
    inode: int


def file_state(path: Path) -> FileState:
    """The present state of the file at `path`. Raises `OSError`."""
    status = path.stat()
    return FileState(status.st_size, status.st_mtime_ns, status.st_ino)


class DigestCache:
    """Digests by path and state, kept in the file `path`. May be used by several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = _read(path)

    def digest(self, path: Path) -> str:
        """SHA-256 of the file at `path`, 64 hex digits. Reads the whole file unless its state is known.

        Raises `ModelError` if the file cannot be read, or changes meanwhile.
        """
        try:
            state = file_state(path)
            known = self._known.get(str(path))
            if known is not None and known[0] == state:
                return known[1]
            with self._lock:
                return self._compute(path)
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read ({error.strerror}). Check its permissions.") from None

    def _compute(self, path: Path) -> str:
        """The digest, by one thread at a time, which remembers it for those that waited."""
        state = file_state(path)
        known = self._known.pop(str(path), None)
        if known is None or known[0] != state:
            with path.open("rb") as file:
                known = (state, hashlib.file_digest(file, "sha256").hexdigest())
            if file_state(path) != state:
                raise ModelError(f"{path.name} is still being written. Try again when it is complete.")
        self._known[str(path)] = known
        self._save()
        return known[1]

    def _save(self) -> None:
        for path in list(self._known)[:-CACHE_MAX_FILES]:
            del self._known[path]
        entries = {
            path: [state.size_bytes, state.modified_ns, state.inode, digest]
            for path, (state, digest) in self._known.items()
        }
        try:
            with replacing(self._path) as partial:
                partial.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        except HomeError:
            return  # a cache that cannot be kept costs time, nothing else


def _read(path: Path) -> dict[str, tuple[FileState, str]]:
    """What the cache file says; nothing if it is missing, or not what we write."""
    try:
        if path.stat().st_size > CACHE_MAX_BYTES:
            return {}
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known: dict[str, tuple[FileState, str]] = {}
    if not isinstance(entries, dict):
        return known
    for name, entry in cast(dict[str, object], entries).items():
        match entry:
            case [int(size), int(modified), int(inode), str(digest)] if len(digest) == _DIGEST_LENGTH:
                known[name] = (FileState(size, modified, inode), digest)
            case _:
                continue
    return known
