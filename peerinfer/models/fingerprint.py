"""Computes the manifest of a model from its files: every byte of it is read once. Blocks; for a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import cast

from peerinfer.errors import CorruptModel, ModelError
from peerinfer.models.holdings import table_of
from peerinfer.models.inspection import Inspection
from peerinfer.models.manifest import CHUNK_BYTES, Manifest, PartHeader


def fingerprint(
    paths: Sequence[Path], inspection: Inspection, progress: Callable[[float], None] = lambda _: None
) -> Manifest:
    """The manifest of the model in `paths`; `progress` is told the share read. Raises `ModelError`."""
    try:
        return _fingerprint(paths, inspection, progress)
    except OSError as error:
        raise ModelError(f"{paths[0].name} cannot be read ({error.strerror}). Check its permissions.") from None


def _fingerprint(paths: Sequence[Path], inspection: Inspection, progress: Callable[[float], None]) -> Manifest:
    table = table_of(inspection)
    rows = cast("list[tuple[int, int, int]]", table.tolist())
    total = int(table[:, 2].sum())
    done = 0
    digests: list[bytes] = []
    with ExitStack() as opened:
        files = [opened.enter_context(FileIO(path, "rb")) for path in paths]
        parts = [
            _header(file.read(n_bytes), n_bytes) for file, n_bytes in zip(files, inspection.header_bytes, strict=True)
        ]
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for part, offset, n_bytes in rows:
            files[part].seek(offset)
            left = n_bytes
            while left:
                view = buffer[: min(left, CHUNK_BYTES)]
                _fill(files[part], view)
                digests.append(hashlib.sha256(view).digest())
                left -= len(view)
                done += len(view)
                progress(done / total)
    return Manifest(tuple(parts), tuple(table[:, 2].tolist()), b"".join(digests))


def _header(content: bytes, n_bytes: int) -> PartHeader:
    if len(content) != n_bytes:
        raise CorruptModel("The model file became shorter while it was read. Fetch it again.")
    return PartHeader(n_bytes, hashlib.sha256(content).digest())


def _fill(file: FileIO, view: memoryview) -> None:
    got = 0
    while got < len(view):
        count = file.readinto(view[got:])
        if not count:
            raise CorruptModel("The model file became shorter while it was read. Fetch it again.")
        got += count
