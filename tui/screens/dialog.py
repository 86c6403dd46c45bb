"""A dialog over the screen: a framed box that Escape closes."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer

from tui.widgets.plain import words

T = TypeVar("T")


class Dialog(ModalScreen[T], Generic[T]):
    """A box with a heading. What comes from elsewhere is shown as plain text, never as markup."""

    HEADING: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close")]

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
        raise NotImplementedError

    def mesh_changed(self) -> None:
        """Something of the mesh changed, or another dialog that was over this one has gone."""
        self._go_if_over()

    def end(self) -> None:
        """Closes it once it is in front."""
        self._is_over = True
        self._go_if_over()

    def _go_if_over(self) -> None:
        if self._is_over and self.is_current:
            self.dismiss(None)

    def action_close(self) -> None:
        """Closes it without an answer."""
        self.dismiss(None)
