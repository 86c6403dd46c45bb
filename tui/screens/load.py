"""How a model is to be loaded."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Select

from tui.screens.dialog import Dialog
from tui.widgets.plain import words
from tui.words import harmless

POLICIES: Final = (
    ("latency: the quickest single answer", "latency"),
    ("throughput: the most tokens when many ask", "throughput"),
    ("spread: the least memory on any machine", "spread"),
)
_FIELDS: Final = (
    ("context", "Tokens of one conversation (empty: 4096, or fewer where they do not fit)"),
    ("slots", "Answers at once (empty: 4, or fewer)"),
    ("min_nodes", "Split over at least so many machines (empty: 1)"),
)


class LoadDialog(Dialog[dict[str, Any]]):
    """Answers the wish for `load`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "take", "Load", priority=True)]

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def heading(self) -> str:
        """See `Dialog`."""
        return f"Load {harmless(self._model)}"

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        yield words("Best for", classes="label")
        yield Select(POLICIES, value="latency", allow_blank=False, compact=True, id="policy")
        for name, label in _FIELDS:
            yield words(label, classes="label")
            yield Input(id=name, type="integer", max_length=8, compact=True)
        yield words("Enter loads it, Escape does not.", id="outcome")

    def on_mount(self) -> None:
        """Enter loads with what is there."""
        self.query_one("#context", Input).focus()

    @on(Input.Submitted)
    def action_take(self) -> None:
        """Loads as it was typed."""
        wish: dict[str, Any] = {"model": self._model, "policy": str(self.query_one("#policy", Select).value)}  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        for name, _ in _FIELDS:
            text = self.query_one(f"#{name}", Input).value.strip()
            if not text:
                continue
            if not text.isdecimal() or int(text) < 1:
                self.say("outcome", f"{text} is not a whole number from 1.")
                return
            wish[name] = int(text)
        self.dismiss(wish)
