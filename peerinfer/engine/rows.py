"""How the rows of a step become calls to an engine: long ones in chunks, single tokens together if that pays. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peerinfer.net.frames import Row


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a row in one call."""

    slot: int
    position: int
    count: int
    source: int
    """First token in the step's input."""
    target: int
    """Row in the step's logits."""
    sample: bool


def pieces(rows: Sequence[Row], chunk: int, *, together: bool) -> Iterator[list[Piece]]:
    """Cuts rows into calls of at most `chunk` tokens; single tokens share one, by slot, if `together`."""
    singles: list[Piece] = []
    source = target = 0
    for row in rows:
        for done in range(0, row.count, chunk):
            count = min(chunk, row.count - done)
            last = done + count == row.count
            piece = Piece(row.slot, row.position + done, count, source + done, target, row.sample and last)
            if count == 1 and together:
                singles.append(piece)
            else:
                yield [piece]
        source += row.count
        target += row.sample
    singles.sort(key=lambda piece: piece.slot)
    for start in range(0, len(singles), chunk):
        yield singles[start : start + chunk]
