"""Where a question is typed: Enter sends it, Ctrl-J begins a new line."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from tui.face import face_of

QUESTION_MAX: Final = 1_000_000
"""Characters of a question: more than any context of a model that runs at home."""


class Prompt(TextArea):
    """A text area of a few rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send"),
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
        self.is_locked = False
        """Whether an answer is coming: what is typed waits."""

    def on_key(self, event: events.Key) -> None:
        """Enter sends what was typed before it, and clears that before what follows it is typed."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_send()

    def action_send(self) -> None:
        """Sends what was typed, if anything was."""
        text = self.text.strip()
        if self.is_locked:
            face_of(self).tell("An answer is still coming: Escape stops it.")
        elif len(text) > QUESTION_MAX:
            face_of(self).tell(f"A question may have {QUESTION_MAX:,} characters; this one has {len(text):,}.")
        elif text:
            self.clear()
            self.is_locked = True
            self.post_message(self.Sent(text))

    def action_new_line(self) -> None:
        """A new line."""
        self.insert("\n")
