"""The event log: what happened to the mesh, in plain words with the time of day."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar, Final

from rich.text import Text
from textual.widgets import RichLog

from tui.mesh.lines import TimedLine, Tone
from tui.mesh.view import LINES_MAX, MeshView

CLASSES: Final = {tone: f"log--{tone.value}" for tone in Tone}


class EventLog(RichLog, can_focus=True):
    """The newest line is the last; it follows unless a person has scrolled up."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {*CLASSES.values(), "log--time"}
    DEFAULT_CSS = """
    EventLog {
        .log--time { color: $text-muted; }
        .log--good { color: $text-success; }
        .log--warning { color: $text-warning; }
        .log--bad { color: $text-error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, max_lines=LINES_MAX, wrap=True, markup=False, highlight=False, min_width=20)
        self._told = 0
        self._view = MeshView()
        self._width = 0

    def on_mount(self) -> None:
        """Lines keep the colours that they were written in, so another theme needs them anew."""
        self.app.theme_changed_signal.subscribe(self, self._rewrite)  # pyright: ignore[reportUnknownMemberType]

    def follow(self, view: MeshView) -> None:
        """Writes what the view has told since last time; all of it if lines break elsewhere now."""
        self._view = view
        width = self.scrollable_content_region.width
        if width != self._width:
            self._width = width
            self._rewrite()
            return
        new = min(view.told - self._told, len(view.lines))
        self._write(list(view.lines)[len(view.lines) - new :])

    def _rewrite(self, _theme: object = None) -> None:
        self.clear()
        self._write(self._view.lines)

    def _write(self, lines: Iterable[TimedLine]) -> None:
        self._told = self._view.told
        for line in lines:
            self.write(self._text(line), width=self._width or None, scroll_end=self.is_vertical_scroll_end)

    def _text(self, timed: TimedLine) -> Text:
        clock = time.strftime("%H:%M:%S", time.localtime(timed.at))
        tone = self.get_component_rich_style(CLASSES[timed.line.tone], partial=True)
        faint = self.get_component_rich_style("log--time", partial=True)
        return Text.assemble((f"{clock} ", faint), (timed.line.text, tone))
