"""Figures over time as columns of blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tui.picture.canvas import Role, Runs

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def chart(values: Sequence[float], rows: int, role: Role) -> list[Runs]:
    """Columns of `rows` rows, as high as the highest value; a dot on the ground where nothing was."""
    top = max(values, default=0.0)
    heights = [round(value / top * rows * 8) if top > 0 else 0 for value in values]
    heights = [max(1, height) if value > 0 else 0 for height, value in zip(heights, values, strict=True)]
    return [_row(heights, rows - 1 - row, role) for row in range(rows)]


def _row(heights: Sequence[int], above_ground: int, role: Role) -> Runs:
    runs: Runs = []
    for height in heights:
        filled = min(8, max(0, height - 8 * above_ground))
        is_nothing = height == 0 and above_ground == 0
        piece = ("·", Role.FAINT) if is_nothing else (_EIGHTHS[filled], role)
        if runs and runs[-1][1] is piece[1]:
            runs[-1] = (runs[-1][0] + piece[0], piece[1])
        else:
            runs.append(piece)
    return runs
