"""A question that is answered with y or n."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.screens.dialog import Dialog
from tui.widgets.plain import words


class ConfirmDialog(Dialog[bool]):
    """Asks before something that cannot be taken back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n", "answer(False)", "No"),
    ]

    def __init__(self, question: str, consequence: str) -> None:
        """`question` in a few words, `consequence` as a sentence; both may hold names from elsewhere."""
        super().__init__()
        self._question = question
        self._consequence = consequence

    def heading(self) -> str:
        """See `Dialog`."""
        return self._question

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        yield words(self._consequence)
        yield words("y does it, n or Escape leaves all as it is.", classes="hint")

    def action_answer(self, answer: bool) -> None:
        """Ends with the answer."""
        self.dismiss(answer)
