"""The list of loaded models to pick one from."""

from __future__ import annotations

from typing import Any, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Select

from tui.widgets.plain import words
from tui.words import harmless


class ModelPicker(Horizontal):
    """Offers what is loaded."""

    class Picked(Message):
        """A person picked a model."""

        def __init__(self, model: str) -> None:
            super().__init__()
            self.model = model

    class Closed(Message):
        """The list closed, whatever was picked."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._offered: list[str] = []

    def compose(self) -> ComposeResult:
        """A label and the list."""
        yield words("Model", classes="label")
        yield Select[str]([], prompt="the one that is loaded", compact=True)

    def on_mount(self) -> None:
        """Hears when the list closes."""
        self.watch(self._select(), "expanded", self._expanded, init=False)

    def _expanded(self, is_open: bool) -> None:
        if not is_open:
            self.post_message(self.Closed())

    def offer(self, models: list[str], chosen: str) -> None:
        """Offers `models`; `chosen` is the one that is asked now."""
        offered = sorted({*models, chosen} - {""})
        select = self._select()
        if offered != self._offered:
            self._offered = offered
            with self.prevent(Select.Changed):
                select.set_options([(Content(harmless(model)), model) for model in offered])
        wanted: Any = chosen if chosen in offered else Select.NULL
        if select.value != wanted:
            with self.prevent(Select.Changed):
                select.value = wanted

    def _select(self) -> Select[str]:
        return cast("Select[str]", self.query_one(Select))  # pyright: ignore[reportUnknownMemberType]

    def open(self) -> None:
        """Opens the list."""
        select = self._select()
        select.focus()
        select.action_show_overlay()

    @on(Select.Changed)
    def changed(self, event: Select.Changed) -> None:
        """Another one was picked."""
        event.stop()
        self.post_message(self.Picked("" if event.value is Select.NULL else str(event.value)))
