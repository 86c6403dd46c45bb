"""A widget that shows rows of text with roles, and asks for a redraw only if they differ."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from tui.picture.canvas import Role, Runs, width_of, wrapped

ROLE_CLASSES: Final = {role: f"role--{role.value}" for role in Role}


class Picture(Widget):
    """Rows as `tui.picture` draws them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(ROLE_CLASSES.values())
    DEFAULT_CSS = """
    Picture {
        height: auto;
        width: 1fr;
        .role--plain { color: $foreground; }
        .role--faint { color: $text-muted; }
        .role--strong { text-style: bold; }
        .role--good { color: $text-success; }
        .role--warning { color: $text-warning; }
        .role--bad { color: $text-error; text-style: bold; }
        .role--accent { color: $text-primary; }
        .role--active { color: $text-accent; text-style: bold; }
        .role--chosen { color: $text-accent; text-style: bold; }
        .role--first { color: $text-primary; }
        .role--second { color: $text-success; }
        .role--third { color: $text-warning; }
        .role--fourth { color: $text-secondary; }
        .role--code { color: black; background: white; }
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Runs] = []
        self._whole: list[Runs] = []

    def show(self, rows: list[Runs]) -> None:
        """Shows `rows` instead of what was there."""
        if rows == self._rows:
            return
        is_resized = len(rows) != len(self._rows)
        self._rows = rows
        self.refresh(layout=is_resized)

    def show_wrapped(self, rows: list[Runs]) -> None:
        """Shows `rows`, with those that are too long for the widget broken between words."""
        self._whole = rows
        width = max(8, self.size.width)
        self.show([part for runs in rows for part in wrapped(runs, width)])

    def on_resize(self) -> None:
        """Another width breaks lines elsewhere."""
        if self._whole:  # else it was drawn for its size, or is empty
            self.show_wrapped(self._whole)

    @property
    def shown(self) -> str:
        """The text without its roles."""
        return "\n".join("".join(text for text, _ in runs) for runs in self._rows)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as there are."""
        del container, viewport, width
        return len(self._rows)

    def render_line(self, y: int) -> Strip:
        """See `Widget`."""
        width = self.size.width
        plain = self.get_component_rich_style(ROLE_CLASSES[Role.PLAIN])
        row = self._rows[y] if 0 <= y < len(self._rows) else []
        segments = [Segment(text, self.get_component_rich_style(ROLE_CLASSES[role])) for text, role in row]
        return Strip(segments, width_of(row)).adjust_cell_length(width, plain)
