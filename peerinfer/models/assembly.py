"""One shard file in the making: filled chunk by chunk from wherever, each verified before it is written.

The partial file has a name of its own and lies beside the final one. Whatever stops the work, what was written is
found again by its digests; the final name appears when all of it is on the disk. Calls block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from peerinfer.errors import CorruptModel, DiskFull, HomeError
from peerinfer.models.atomic import replace_file
from peerinfer.models.layout import Layout
from peerinfer.models.manifest import Manifest

PARTIAL_SUFFIX: Final = ".partial"

At = Callable[[str], None]
"""Told the name of each point of writing as it is reached; a test ends the process there."""


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file on this disk that holds tensors of a model."""

    path: Path
    offsets: Mapping[int, int]
    """Where each tensor begins, in bytes from the start of the file, by its number in the model."""


def partial_path(final: Path) -> Path:
    """Where the shard `final` grows."""
    return final.with_name(f".{final.name}{PARTIAL_SUFFIX}")


class Assembly:
    """The shard `final` of the model of `manifest`. `put` may be called by several threads; one assembly a file."""

    def __init__(self, final: Path, layout: Layout, manifest: Manifest, at: At = lambda _: None) -> None:
        """Raises `CorruptModel` if layout and manifest do not go together."""
        self.final = final
        self._layout = layout
        self._manifest = manifest
        self._at = at
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._offsets: dict[int, list[int]] = {}
        """Where each tensor stands in the shard: a head may stand there twice."""
        for piece in layout.pieces:
            if piece.tensor < 0:
                continue
            is_known = piece.tensor < len(manifest.tensor_bytes)
            if not is_known or manifest.tensor_bytes[piece.tensor] != piece.n_bytes:
                raise CorruptModel("A shard's plan does not fit the manifest of its model. Load the model again.")
            self._offsets.setdefault(piece.tensor, []).append(piece.offset)
        self.missing = dict.fromkeys(
            number for tensor in sorted(self._offsets) for number in manifest.chunks_of(tensor)
        )
        """The chunks that are not there yet, in order."""
        self._total_bytes = self.missing_bytes = sum(manifest.tensor_bytes[tensor] for tensor in self._offsets)

    @property
    def n_bytes(self) -> int:
        """Size of the file when it is whole."""
        return self._layout.n_bytes

    @property
    def share(self) -> float:
        """The share of the weights that is there, 0 … 1."""
        return 1.0 - self.missing_bytes / self._total_bytes if self._total_bytes else 1.0

    def take_back(self) -> None:
        """Makes a shard that is there a partial file again, to be verified. Raises `HomeError`."""
        with _told(self.final):
            replace_file(self.final, partial_path(self.final))

    def open(self, progress: Callable[[], None] = lambda: None) -> None:
        """Opens the partial file, or makes it, and finds out what of it is there. Raises `HomeError`."""
        path = partial_path(self.final)
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            self._file = path.open("w+b" if is_new else "r+b", buffering=0)
            self._at("opened")
            self._file.truncate(self._layout.n_bytes)
            self._write(0, self._layout.head)
            for piece in self._layout.pieces:
                if piece.tensor < 0:
                    self._write(piece.offset, piece.content)
            self._at("headed")
        for number in () if is_new else list(self.missing):
            n_bytes = self._manifest.chunk(number).n_bytes
            if all(self._manifest.is_chunk(number, self._read(place, n_bytes)) for place in self._places(number)):
                self._arrived(number)
                progress()

    def put(self, number: int, content: bytes | bytearray | memoryview) -> bool:
        """Takes chunk `number` if `content` is it; whether it was. Raises `HomeError`."""
        if not self._manifest.is_chunk(number, content):
            return False
        with _told(self.final):
            for place in self._places(number):
                self._write(place, content)
        self._at("chunk")
        self._arrived(number)
        return True

    def fill(self, source: LocalSource, progress: Callable[[], None]) -> None:
        """Copies what is missing and stands in `source`; what is damaged there stays missing. Raises `HomeError`."""
        chunks = [self._manifest.chunk(number) for number in self.missing]
        wanted = [chunk for chunk in chunks if chunk.tensor in source.offsets]
        with contextlib.suppress(OSError), source.path.open("rb") as file:  # once removed: others may have what it had
            for chunk in wanted:
                file.seek(source.offsets[chunk.tensor] + chunk.offset)
                if self.put(chunk.number, file.read(chunk.n_bytes)):
                    progress()

    def finish(self) -> Path:
        """Gives the whole file its name, when it is on the disk. Raises `HomeError`."""
        if self.missing or self._file is None:
            raise CorruptModel(f"{self.final.name} is not whole. Load the model again.")
        with _told(self.final):
            os.fsync(self._file.fileno())
            self._at("synced")
            self.close()
            replace_file(partial_path(self.final), self.final)
            self._at("renamed")
        return self.final

    def close(self) -> None:
        """Lets go of the file; what is there stays. Waits for a write: its descriptor may soon be another's."""
        with self._lock:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # what is not on the disk is found missing, or `finish` has synced it
                if file is not None:
                    file.close()

    def _places(self, number: int) -> list[int]:
        chunk = self._manifest.chunk(number)
        return [offset + chunk.offset for offset in self._offsets[chunk.tensor]]

    def _arrived(self, number: int) -> None:
        with self._lock:
            if number in self.missing:
                del self.missing[number]
                self.missing_bytes -= self._manifest.chunk(number).n_bytes

    def _write(self, offset: int, content: bytes | bytearray | memoryview) -> None:
        with self._lock:
            if self._file is None:
                raise HomeError(f"{self.final.name} is not being written any more. Load the model again.")
            self._file.seek(offset)
            view = memoryview(content)
            while view:
                view = view[self._file.write(view) or 0 :]

    def _read(self, offset: int, n_bytes: int) -> bytes:
        with self._lock:
            if self._file is None:
                return b""
            self._file.seek(offset)
            return self._file.read(n_bytes) or b""


class _told:  # noqa: N801  (read as a word at its uses)
    """Turns what the disk says into a sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk became full while {self._path.name} was written. Free some space.") from None
        where = self._path.parent
        raise HomeError(
            f"{self._path.name} cannot be written ({error.strerror}). Check the permissions of {where}."
        ) from None
