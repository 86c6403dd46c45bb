"""What becomes of the node when a person closes the terminal face."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.screens.dialog import Dialog
from tui.widgets.plain import words


class LeaveDialog(Dialog[str]):
    """Answers `keep` or `stop`; Escape goes back to the face."""

    HEADING = "Leave: shall the node of this machine keep running?"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k,enter", "choose('keep')", "Keep it running", key_display="k"),
        Binding("s", "choose('stop')", "Stop it"),
    ]

    def __init__(self, *, is_pulling: bool = False) -> None:
        super().__init__()
        self._is_pulling = is_pulling

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        if self._is_pulling:
            yield words("A model is being pulled here: that ends with this face, and goes on from there next time.")
        yield words("k  It stays in the background: it answers, and runs its layers for the other machines.")
        yield words("s  It stops: its layers go to other machines, or the models that need them stop.")
        yield words("Escape goes back.", classes="hint")

    def action_choose(self, answer: str) -> None:
        """Ends with the answer."""
        self.dismiss(answer)
