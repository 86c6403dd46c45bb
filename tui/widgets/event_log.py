"""The event log: what happened to the mesh, in plain words with the time of day."""

from __future__ import annotations

import time
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

    def follow(self, view: MeshView) -> None:
        """Writes what the view has told since last time."""
        new = min(view.told - self._told, len(view.lines))
        self._told = view.told
        for line in list(view.lines)[len(view.lines) - new :]:
            width = self.scrollable_content_region.width or None
            self.write(self._text(line), width=width, scroll_end=self.is_vertical_scroll_end)

    def _text(self, timed: TimedLine) -> Text:
        clock = time.strftime("%H:%M:%S", time.localtime(timed.at))
        tone = self.get_component_rich_style(CLASSES[timed.line.tone], partial=True)
        return Text.assemble(
            (f"{clock} ", self.get_component_rich_style("log--time", partial=True)), (timed.line.text, tone)
        )
