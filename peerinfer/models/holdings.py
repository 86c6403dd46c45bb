"""What of one model lies on this disk: its manifest, its headers, and the files that hold tensors of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from peerinfer.models.assembly import LocalSource
from peerinfer.models.facts import ModelFacts
from peerinfer.models.inspection import Inspection
from peerinfer.models.layout import Layout
from peerinfer.models.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is known of one model; its weights may be elsewhere."""

    digest: str
    manifest: Manifest
    inspection: Inspection
    paths: tuple[Path, ...]
    """The model's files in order, or files with just their headers."""
    is_header_only: bool

    @property
    def facts(self) -> ModelFacts:
        """Shape and sizes."""
        return self.inspection.facts

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """Rows (file, offset, bytes), one for each tensor."""
        return table_of(self.inspection)

    def own_sources(self) -> tuple[LocalSource, ...]:
        """The model's own files, as sources of its tensors."""
        if self.is_header_only:
            return ()
        table = self.table
        return tuple(
            LocalSource(path, {int(tensor): int(table[tensor, 1]) for tensor in np.flatnonzero(table[:, 0] == part)})
            for part, path in enumerate(self.paths)
        )


def table_of(inspection: Inspection) -> npt.NDArray[np.int64]:
    """The tensors' rows of an inspection."""
    return np.frombuffer(inspection.tensors, np.int64).reshape(-1, 3)


def shard_source(path: Path, layout: Layout) -> LocalSource:
    """A shard file as a source of the tensors it holds."""
    return LocalSource(path, {piece.tensor: piece.offset for piece in layout.pieces if piece.tensor >= 0})


def held_tensors(sources: Sequence[LocalSource]) -> list[int]:
    """The tensors that these files hold, in order."""
    return sorted({tensor for source in sources for tensor in source.offsets})


def ranges_of(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Sorted numbers as half-open ranges."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return tuple(ranges)


def read_chunk(manifest: Manifest, number: int, sources: Sequence[LocalSource]) -> bytes | None:
    """The bytes of a chunk from the first file that has them; not verified, for who asked does so. Blocks."""
    chunk = manifest.chunk(number)
    for source in sources:
        start = source.offsets.get(chunk.tensor)
        if start is None:
            continue
        try:
            with source.path.open("rb") as file:
                file.seek(start + chunk.offset)
                content = file.read(chunk.n_bytes)
        except OSError:
            continue
        if len(content) == chunk.n_bytes:
            return content
    return None
