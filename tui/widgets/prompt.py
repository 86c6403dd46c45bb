"""Where a question is typed: Enter sends it, Ctrl-J begins a new line."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

QUESTION_MAX: Final = 1_000_000
"""Characters of a question: more than any context of a model that runs at home."""


class Prompt(TextArea):
    """A text area of a few rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", priority=True),
        Binding("ctrl+j,shift+enter", "new_line", "New line", key_display="^j", show=False),
    ]

    class Sent(Message):
        """A person sent a question."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            show_line_numbers=False,
            highlight_cursor_line=False,
            tab_behavior="focus",
            placeholder="Ask something; Enter sends",
        )

    def action_send(self) -> None:
        """Sends what was typed, if anything was."""
        text = self.text.strip()[:QUESTION_MAX]
        if text:
            self.post_message(self.Sent(text))

    def action_new_line(self) -> None:
        """A new line."""
        self.insert("\n")
