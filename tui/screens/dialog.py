"""A dialog over the screen: a framed box that Escape closes."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from tui.widgets.plain import words
from tui.words import sentence

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A box with a heading. What comes from elsewhere is shown as plain text, never as markup."""

    HEADING: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close"),
        Binding("up", "scroll(-1)", "Up", show=False),
        Binding("down", "scroll(1)", "Down", show=False),
        Binding("pageup", "scroll(-12)", "Page up", show=False),
        Binding("pagedown", "scroll(12)", "Page down", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._is_over = False

    def compose(self) -> ComposeResult:
        """Heading, body, keys."""
        with VerticalScroll(id="box", can_focus=False):
            if heading := self.heading():
                yield words(heading, id="heading")
            yield from self.body()
        yield Footer(show_command_palette=False, compact=True)

    def heading(self) -> str:
        """What stands above."""
        return self.HEADING

    def body(self) -> ComposeResult:
        """What is in the box."""
        yield from ()

    def mesh_changed(self) -> None:
        """Something of the mesh changed, or another dialog that was over this one has gone."""
        self._go_if_over()

    def end(self) -> None:
        """Closes it once it is in front."""
        self._is_over = True
        self._go_if_over()

    def _go_if_over(self) -> None:
        if self._is_over and self.is_active:
            self.dismiss(None)

    def say(self, where: str, text: str) -> None:
        """Shows `text` in the widget with this id, and brings it into view."""
        shown = self.query_one(f"#{where}", Static)
        shown.update(Content(sentence(text)))
        if text:
            self.call_after_refresh(shown.scroll_visible, animate=False)

    def on_screen_resume(self) -> None:
        """What was over it has gone."""
        self._go_if_over()

    def action_scroll(self, rows: int) -> None:
        """What does not fit a small terminal comes into view."""
        self.query_one("#box", VerticalScroll).scroll_relative(y=rows, animate=False)

    def action_close(self) -> None:
        """Closes it without an answer."""
        self.dismiss(None)
