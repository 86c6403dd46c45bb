"""A file that is being fetched: its bytes so far, what they hash to, and what the server called the whole of it.

It is neither synced nor complete until `finish`; another process can go on from it, and the digest decides at the end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from peerinfer.errors import CorruptModel, DiskFull, HomeError

HASH_CHUNK_BYTES = 8 << 20
"""Read at once while a file is hashed: large enough for the disk, small enough to report progress."""
ETAG_MAX_CHARS = 256
KEPT_S = 14 * 24 * 3600.0
"""A partial file that nobody went on from for so long is removed."""

Hashed = Callable[[int], None]
"""Told how many bytes of a file are hashed."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,250}"')
"""RFC 9110, 8.8.3; only a strong one may say that two ranges are of the same content (13.1.5)."""


class Partial:
    """The partial file at `path`, open for one fetch. `sha256` of its bytes is computed along the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None

    @property
    def etag(self) -> str:
        """The strong validator of what these bytes are a part of; empty if it is not known."""
        try:
            etag = self._etag_path.read_text(encoding="ascii")[:ETAG_MAX_CHARS]
        except (OSError, ValueError):
            return ""
        return etag if _STRONG_ETAG.fullmatch(etag) else ""

    def open(self, hashed: Hashed) -> None:
        """Opens the file, made if needed, and hashes what it holds already. Raises `HomeError`."""
        with _disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
            self._hash = hashlib.sha256()
            self._file.seek(0)
            self.size_bytes = _feed(self._file, self._hash.update, hashed)

    def restart(self, etag: str) -> None:
        """Forgets what came so far; what comes now is a part of what `etag` names (any text; weak ones are dropped)."""
        with _disk(self.path):
            self._opened.truncate(0)
            self._hash = hashlib.sha256()
            self.size_bytes = 0
            if _STRONG_ETAG.fullmatch(etag):
                self._etag_path.write_text(etag, encoding="ascii")
            else:
                self._etag_path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Appends `data`. Raises `DiskFull` or `HomeError`."""
        with _disk(self.path):
            view = memoryview(data)
            while view:
                view = view[self._opened.write(view) :]
        self._hash.update(data)
        self.size_bytes += len(data)

    def finish(self, sha256: str, final: Path, source: str) -> None:
        """Verifies the digest and moves the file to `final`; a wrong one is removed. Raises `CorruptModel`."""
        found = self._hash.hexdigest()
        if found != sha256:
            self.discard()
            raise CorruptModel(
                f"{source} came with the SHA-256 {found[:16]}…, not {sha256[:16]}…: it was changed or damaged on "
                "the way. It was removed. Pull again; if that fails the same way, do not trust this source."
            )
        with _disk(final):
            os.fsync(self._opened.fileno())
            self.close()
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path, final)
            self._etag_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes the file."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._etag_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file, which stays as it is. Safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _etag_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.etag")

    @property
    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise HomeError(f"The partial file {self.path.name} is not open.")
        return self._file


def file_digest(path: Path, hashed: Hashed) -> str:
    """SHA-256 of the file at `path`, 64 hex digits, with progress. Raises `HomeError`."""
    digest = hashlib.sha256()
    with _disk(path), path.open("rb", buffering=0) as file:
        _feed(file, digest.update, hashed)
    return digest.hexdigest()


def remove_stale(folder: Path, pattern: str, now: float | None = None) -> None:
    """Removes partial files in `folder` (names that match the glob `pattern`) that were left long ago."""
    deadline = (time.time() if now is None else now) - KEPT_S
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < deadline:
                path.unlink()


def _feed(file: IO[bytes], update: Callable[[bytes], None], hashed: Hashed) -> int:
    size = 0
    while chunk := file.read(HASH_CHUNK_BYTES):
        update(chunk)
        size += len(chunk)
        hashed(size)
    return size


@contextmanager
def _disk(path: Path) -> Generator[None]:
    """Turns what the disk says into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"The disk of {path.parent} became full. Free some space and pull again; what came is kept."
            ) from None
        raise HomeError(
            f"{path} cannot be written or read ({error.strerror}). Check the permissions of its folder."
        ) from None
