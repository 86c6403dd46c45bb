"""How answers are made: system prompt, sampling, privacy."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Checkbox, Input, TextArea

from tui.chat.conversation import Settings, read_settings
from tui.screens.dialog import Dialog
from tui.widgets.plain import words

_FIELDS = (
    ("temperature", "Temperature (0 is greedy)"),
    ("top_p", "Top p (1 takes all tokens)"),
    ("max_tokens", "Longest answer in tokens (empty: as long as it likes)"),
    ("seed", "Seed (empty: another one for each answer)"),
)


class SettingsDialog(Dialog[Settings]):
    """Answers the new settings; Escape keeps the old ones."""

    HEADING = "How answers are made"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "take", "Take", priority=True)]

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        known = self._settings
        values = {
            "temperature": f"{known.temperature:g}",
            "top_p": f"{known.top_p:g}",
            "max_tokens": str(known.max_tokens or ""),
            "seed": "" if known.seed is None else str(known.seed),
        }
        yield words("System prompt", classes="label")
        yield TextArea(known.system, id="system", show_line_numbers=False, tab_behavior="focus")
        for name, label in _FIELDS:
            yield words(label, classes="label")
            yield Input(values[name], id=name, max_length=32, compact=True)
        yield Checkbox(
            Content("Private: only on this machine, or not at all"), known.private, id="private", compact=True
        )
        yield words("Ctrl-S takes them, Escape leaves them as they were.", id="outcome")

    @on(Input.Submitted)
    def action_take(self) -> None:
        """Takes what was typed."""
        typed = {name: self.query_one(f"#{name}", Input).value for name, _ in _FIELDS}
        typed["system"] = self.query_one("#system", TextArea).text
        try:
            settings = read_settings(typed, self.query_one("#private", Checkbox).value)
        except ValueError as error:
            self.say("outcome", str(error))
            return
        self.dismiss(settings)
