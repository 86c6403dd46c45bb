"""A canvas of cells with roles: text, boxes and lines that meet. What a role looks like, a theme says. Pure."""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import get_character_cell_size

from tui.words import cells, fit


class Role(enum.StrEnum):
    """What a piece of text is, for whoever colours it."""

    PLAIN = "plain"
    FAINT = "faint"
    STRONG = "strong"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    ACCENT = "accent"
    ACTIVE = "active"
    CHOSEN = "chosen"
    FIRST = "first"
    SECOND = "second"
    THIRD = "third"
    FOURTH = "fourth"
    CODE = "code"
    """Black on white in every theme: a QR code."""


STAGE_ROLES: Final = (Role.FIRST, Role.SECOND, Role.THIRD, Role.FOURTH)
"""Colours of stages, in turn; neighbours differ."""

Run = tuple[str, Role]
"""A piece of a line."""
Runs = list[Run]

NORTH, EAST, SOUTH, WEST = 1, 2, 4, 8
_GLYPHS: Final = {
    NORTH: "│", SOUTH: "│", NORTH | SOUTH: "│", EAST: "─", WEST: "─", EAST | WEST: "─",
    EAST | SOUTH: "╭", WEST | SOUTH: "╮", NORTH | EAST: "╰", NORTH | WEST: "╯",
    NORTH | EAST | SOUTH: "├", NORTH | SOUTH | WEST: "┤", EAST | SOUTH | WEST: "┬", NORTH | EAST | WEST: "┴",
    NORTH | EAST | SOUTH | WEST: "┼",
}  # fmt: skip

Point = tuple[int, int]
"""Column and row, from the top left."""


class Canvas:
    """Cells that take text and lines; what lies outside is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self.width = max(0, width)
        self.height = max(0, height)
        self._letters = [[" "] * self.width for _ in range(self.height)]
        self._roles = [[Role.PLAIN] * self.width for _ in range(self.height)]
        self._ways: dict[Point, int] = {}

    def text(self, x: int, y: int, text: str, role: Role = Role.PLAIN, width: int | None = None) -> int:
        """Writes `text`, cut to `width` cells; returns the column after it. A wide letter takes two cells."""
        if width is not None:
            text = fit(text, width)
        for letter in text:
            taken = get_character_cell_size(letter)
            if taken == 0:
                self._join(x - 1, y, letter)
                continue
            if 0 <= y < self.height and x >= 0 and x + taken <= self.width:
                self._letters[y][x] = letter
                self._roles[y][x] = role
                for column in range(x + 1, x + taken):
                    self._letters[y][column] = ""
                    self._roles[y][column] = role
            x += taken
        return x

    def runs(self, x: int, y: int, runs: Iterable[Run], width: int) -> None:
        """Writes pieces one after another, cut to `width` cells together."""
        end = x + width
        for text, role in runs:
            x = self.text(x, y, text, role, max(0, end - x))

    def box(self, x: int, y: int, width: int, height: int, role: Role = Role.PLAIN, *, heavy: bool = False) -> None:
        """A frame with round corners, or a heavy one, which differs without colours too."""
        left, flat, right, side, low_left, low_right = "┏━┓┃┗┛" if heavy else "╭─╮│╰╯"
        self.text(x, y, f"{left}{flat * (width - 2)}{right}", role)
        for row in range(y + 1, y + height - 1):
            self.text(x, row, side, role)
            self.text(x + width - 1, row, side, role)
        self.text(x, y + height - 1, f"{low_left}{flat * (width - 2)}{low_right}", role)

    def line(self, points: Sequence[Point], role: Role = Role.PLAIN) -> None:
        """A line through `points`, each on one column or row with the next; it joins lines that it meets."""
        for start, end in itertools.pairwise(points):
            self._segment(start, end, role)

    def _segment(self, start: Point, end: Point, role: Role) -> None:
        (x, y), (to_x, to_y) = start, end
        step_x, step_y = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
        ahead = EAST if step_x > 0 else WEST if step_x < 0 else SOUTH if step_y > 0 else NORTH
        behind = {EAST: WEST, WEST: EAST, SOUTH: NORTH, NORTH: SOUTH}[ahead]
        while (x, y) != (to_x, to_y):
            self._way(x, y, ahead, role)
            x, y = x + step_x, y + step_y
            self._way(x, y, behind, role)

    def _way(self, x: int, y: int, way: int, role: Role) -> None:
        if not (0 <= x < self.width and 0 <= y < self.height):
            return
        ways = self._ways[(x, y)] = self._ways.get((x, y), 0) | way
        self._letters[y][x] = _GLYPHS[ways]
        self._roles[y][x] = role

    def _join(self, x: int, y: int, mark: str) -> None:
        """A combining mark belongs to the letter before it."""
        if 0 <= y < self.height and 0 <= x < self.width:
            self._letters[y][x] += mark

    def rows(self) -> list[Runs]:
        """Each row as pieces of one role."""
        return [_runs(letters, roles) for letters, roles in zip(self._letters, self._roles, strict=True)]


def plain(rows: Iterable[Runs]) -> str:
    """Rows without their roles."""
    return "\n".join("".join(text for text, _ in runs).rstrip() for runs in rows)


def width_of(runs: Iterable[Run]) -> int:
    """Cells that pieces take together."""
    return sum(cells(text) for text, _ in runs)


def wrapped(runs: Runs, width: int) -> list[Runs]:
    """Pieces broken between words into rows of at most `width` cells; a word that is longer is cut."""
    rows: list[Runs] = [[]]
    room = width
    for word, role in ((word, role) for text, role in runs for word in re.findall(r"\s+|\S+", text)):
        if cells(word) > room and rows[-1]:
            rows.append([])
            room = width
        is_indent = room == width and len(rows) > 1 and word.isspace()  # it was the gap where the row was broken
        if not is_indent:
            rows[-1].append((fit(word, room), role))
            room -= min(room, cells(word))
    return rows


def bar(share: float | None, width: int, role: Role) -> Runs:
    """A bar of eighths of a cell for a share, 0 … 1; dots where it is not known."""
    if share is None:
        return [("·" * width, Role.FAINT)]
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return [(drawn, role), ("░" * (width - len(drawn)), Role.FAINT)]


def _runs(letters: Sequence[str], roles: Sequence[Role]) -> Runs:
    runs: Runs = []
    for letter, role in zip(letters, roles, strict=True):
        if runs and runs[-1][1] is role:
            runs[-1] = (runs[-1][0] + letter, role)
        else:
            runs.append((letter, role))
    return runs
