"""The chat: pick a model, ask, see through which machines the answer comes, and what happens to it on its way."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.worker import Worker

from tui.asking import Asking
from tui.chat.answer import AnswerProgress, RingWatch, instance_of, route, unready
from tui.chat.conversation import Conversation, Settings, Turn
from tui.face import face_of
from tui.picture.canvas import Role, Runs
from tui.screens.base import FaceScreen
from tui.screens.settings import SettingsDialog
from tui.widgets.message import Answer, Question
from tui.widgets.model_picker import ModelPicker
from tui.widgets.picture import Picture
from tui.widgets.prompt import Prompt
from tui.words import harmless


class ChatScreen(FaceScreen):
    """One conversation."""

    WHERE = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+r", "retry", "Retry"),
        Binding("ctrl+y", "copy", "Copy", priority=True),
        Binding("ctrl+o", "settings", "Settings"),
        Binding("ctrl+l", "pick", "Model"),
        Binding("ctrl+n", "begin", "New"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._conversation = Conversation()
        self._asking: Asking | None = None
        self._work: Worker[None] | None = None

    def body(self) -> ComposeResult:
        """See `FaceScreen`."""
        yield ModelPicker(id="model")
        yield Picture(id="route")
        yield VerticalScroll(id="transcript", can_focus=True)
        yield Prompt(id="prompt")

    def on_mount(self) -> None:
        """One can type at once, also after a model was picked."""
        self.query_one(Prompt).focus()

    def mesh_changed(self) -> None:
        """See `FaceScreen`."""
        super().mesh_changed()
        state = face_of(self).view.state
        if state is not None:
            self.query_one(ModelPicker).offer([one.model for one in state.instances], self.talks_to)
        self.query_one("#route", Picture).show_wrapped([self._route()])

    @property
    def talks_to(self) -> str:
        """The model that is asked; empty for the one that is loaded."""
        return face_of(self).chat_model

    def _route(self) -> Runs:
        face = face_of(self)
        state = face.view.state
        instance = instance_of(state, self.talks_to)
        trouble = unready(state, self.talks_to)
        if state is None or instance is None or trouble:
            return [(trouble or "No node answers.", Role.WARNING)]
        private = [(" · private", Role.GOOD)] if self._conversation.settings.private else []
        now = face.view.rates.now(instance.id, time.monotonic())
        runs: Runs = [(harmless(instance.model), Role.STRONG), (f"  {route(state, instance)}", Role.ACCENT), *private]
        return [*runs, (f"  {now:.1f} tokens/s", Role.ACTIVE)] if now > 0 else runs

    @property
    def is_answering(self) -> bool:
        """Whether an answer comes."""
        return self._asking is not None

    # ---- keys

    @on(Prompt.Sent)
    def sent(self, message: Prompt.Sent) -> None:
        """Asks what was typed."""
        self._conversation.ask(message.text)
        self.query_one("#transcript", VerticalScroll).mount(Question(message.text))
        self._ask()

    @on(ModelPicker.Picked)
    def picked(self, message: ModelPicker.Picked) -> None:
        """Asks another model from now on."""
        face_of(self).chat_model = message.model
        self.mesh_changed()

    @on(ModelPicker.Closed)
    def closed(self) -> None:
        """Letters are typed again, and are no commands."""
        self.query_one(Prompt).focus()

    def action_stop(self) -> None:
        """Stops the answer that comes; what came of it stays."""
        if self._work is not None and self.is_answering:
            self._work.cancel()

    def action_retry(self) -> None:
        """Asks the last question again."""
        if self.is_answering or not self._conversation.take_back():
            return
        answers = self.query(Answer)
        last = self.query_one("#transcript", VerticalScroll).children
        if answers and last and last[-1] is answers.last():
            answers.last().remove()
        self._ask()

    def action_copy(self) -> None:
        """Copies the last answer to the clipboard of the terminal."""
        answers = self.query(Answer)
        text = answers.last().text if answers else ""
        if text:
            face_of(self).copy_to_clipboard(text)
            face_of(self).tell("The answer was copied.")
        else:
            face_of(self).tell("There is no answer yet.")

    def action_settings(self) -> None:
        """Changes how answers are made."""
        face_of(self).push_screen(SettingsDialog(self._conversation.settings), self._settings_taken)

    def action_pick(self) -> None:
        """Opens the list of models."""
        self.query_one(ModelPicker).open()

    def action_begin(self) -> None:
        """Begins anew, with the same settings."""
        if not self.is_answering:
            self._conversation = Conversation(self._conversation.settings)
            self.query_one("#transcript", VerticalScroll).remove_children()

    def _settings_taken(self, settings: Settings | None) -> None:
        if settings is not None:
            self._conversation.settings = settings
            self.mesh_changed()

    # ---- asking

    def _ask(self) -> None:
        turn, shown = self._conversation.answer(), Answer()
        instance = instance_of(face_of(self).view.state, self.talks_to)
        model = self.talks_to or (instance.model if instance is not None else "")
        body = self._conversation.request(model, secrets.randbits(31))
        progress, watch = AnswerProgress(time.monotonic()), RingWatch(model)
        self._asking = Asking(face_of(self), body, progress, watch, shown)
        self.query_one(Prompt).is_locked = True  # also where Ctrl-R asks
        self._work = self.run_worker(partial(self._run, self._asking, turn), group="answer", exclusive=True)

    async def _run(self, asking: Asking, turn: Turn) -> None:
        transcript = self.query_one("#transcript", VerticalScroll)
        await transcript.mount(asking.shown)
        transcript.anchor()
        try:
            await asking.run()
        finally:
            turn.text = asking.shown.text
            self._conversation.ended()
            self._asking = None
            for prompt in self.query(Prompt):  # none if the app is leaving
                prompt.is_locked = False
