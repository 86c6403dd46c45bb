"""Where cards stand: row by row like a furrow, so that neighbours in order stand side by side. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

CARD_MIN_WIDTH: Final = 20
CARD_MAX_WIDTH: Final = 46
GAP_MIN: Final = 9
"""Columns between cards: an arrow and `118 MB/s`."""
GAP_MAX: Final = 16
ROW_GAP: Final = 2
CARD_MIN_HEIGHT: Final = 4
"""A frame and two lines."""
COLUMNS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Place:
    """A card's place in cells."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column behind it."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.y + self.height

    @property
    def middle(self) -> tuple[int, int]:
        """Column and row of its middle."""
        return self.x + self.width // 2, self.y + self.height // 2

    def holds(self, x: int, y: int) -> bool:
        """Whether a cell is of it."""
        return self.x <= x < self.right and self.y <= y < self.bottom


def arrange(count: int, width: int, height: int, tallest: int) -> tuple[Place, ...]:
    """Places for `count` cards in their order, in `width` columns; taller than `height` rows only if they must.

    `tallest` is the height of the card that has most to tell, its frame included.
    """
    if count <= 0:
        return ()
    columns = columns_of(count, width)
    rows = math.ceil(count / columns)
    tall = max(CARD_MIN_HEIGHT, min(tallest, (height - (rows - 1) * ROW_GAP) // rows))
    card, gap = _widths(columns, width)
    left = max(0, width - columns * card - (columns - 1) * gap) // 2
    lines = [_in_row(row, rows, columns, count) for row in range(rows)]
    places: list[Place] = []
    for row, in_row in enumerate(lines):
        start = left + (columns - in_row) * (card + gap) // 2
        xs = [start + (card + gap) * column for column in range(in_row)]
        for x in xs if row % 2 == 0 else reversed(xs):
            places.append(Place(x, row * (tall + ROW_GAP), card, tall))
    return tuple(places)


def columns_of(count: int, width: int) -> int:
    """Cards in a row: two rows while they fit, as a ring wants."""
    most = max(1, min(COLUMNS_MAX, (width + GAP_MIN) // (CARD_MIN_WIDTH + GAP_MIN)))
    if count <= 2:
        return min(count, most)
    return min(most, math.ceil(count / 2))


def _widths(columns: int, width: int) -> tuple[int, int]:
    """Of a card and of a gap."""
    gap = GAP_MIN if columns == 1 else max(GAP_MIN, min(GAP_MAX, (width - columns * CARD_MAX_WIDTH) // (columns - 1)))
    gap = gap if columns > 1 and (width - (columns - 1) * gap) // columns >= CARD_MIN_WIDTH else GAP_MIN
    card = (width - (columns - 1) * gap) // columns
    return max(8, min(CARD_MAX_WIDTH, card)), gap


def _in_row(row: int, rows: int, columns: int, count: int) -> int:
    """Cards in one row; the last one takes what is left."""
    return columns if row < rows - 1 else count - columns * (rows - 1)
