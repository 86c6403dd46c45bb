"""Joining the mesh of another machine, by the digits or the link that it shows."""

from __future__ import annotations

from functools import partial
from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from peerinfer.control.state import Neighbour
from peerinfer.errors import PeerinferError
from tui.face import face_of
from tui.mesh.told import part, text
from tui.screens.dialog import Dialog
from tui.widgets.plain import words
from tui.words import harmless, name_of

TRUST: Final = (
    "Every machine that runs layers of a request can read that request and its answer: "
    "join only machines whose owners you trust."
)
PLACEHOLDER: Final = "six digits, such as 482-913; digits and HOST:PORT; or the link"
CODE_MAX: Final = 1000
NEARBY_SHOWN: Final = 8


class JoinDialog(Dialog[None]):
    """A mesh is chosen of those nearby, the digits are typed, Enter joins."""

    HEADING = "Join the mesh of another machine"

    def __init__(self) -> None:
        super().__init__()
        self._inviting: list[Neighbour] = []

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        yield words(TRUST, classes="hint")
        yield words("", id="nearby-text")
        yield OptionList(id="nearby", markup=False)
        yield Input(
            placeholder=PLACEHOLDER,
            id="code",
            max_length=CODE_MAX,
            compact=True,
        )
        yield words("Enter joins.", classes="hint")
        yield words("", id="outcome")

    def on_mount(self) -> None:
        """Shows who invites."""
        self.query_one("#nearby", OptionList).display = False
        self.mesh_changed()
        self.query_one("#code", Input).focus()

    def mesh_changed(self) -> None:
        """See `Dialog`: meshes come and go."""
        super().mesh_changed()
        state = face_of(self).view.state
        nearby = state.neighbours if state is not None else ()
        inviting = [each for each in nearby if each.pairing][:NEARBY_SHOWN]
        silent = sum(not each.pairing for each in nearby)
        text = "Inviting nearby:" if inviting else "No mesh nearby invites: press i on the other machine first."
        if silent:
            text += f" ({silent}{' more' if inviting else ''} {'does' if silent == 1 else 'do'} not invite now)"
        self.query_one("#nearby-text", Static).update(Content(text))
        if inviting != self._inviting:
            chosen = self._chosen
            self._inviting = inviting
            choices = self.query_one("#nearby", OptionList)
            choices.clear_options()
            choices.add_options([Option(Content(harmless(each.address))) for each in inviting])
            choices.highlighted = _index_of(chosen, inviting)
            choices.display = len(inviting) > 0

    @property
    def _chosen(self) -> Neighbour | None:
        at = self.query_one("#nearby", OptionList).highlighted
        return self._inviting[at] if at is not None and at < len(self._inviting) else None

    @on(OptionList.OptionSelected)
    def chosen(self) -> None:
        """A mesh was chosen: its digits come next."""
        self.query_one("#code", Input).focus()

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Joins."""
        code, _, typed = event.value.strip().partition(" ")
        is_link = "://" in code
        host = "" if is_link else typed.strip() or self._host()
        if not code or (not is_link and not host):
            self.say("outcome", "Choose a mesh above and type its digits, or digits and HOST:PORT, or paste the link.")
            return
        self.say("outcome", "Joining…")
        self.run_worker(partial(self._join, code, host), group="join", exclusive=True)

    async def _join(self, code: str, host: str) -> None:
        face = face_of(self)
        try:
            async for message in face.follow("join", {"code": code, "host": host}):
                if "result" in message:
                    joined = part(message, "result")
                    who = name_of(text(joined, "name"), text(joined, "node"))
                    face.tell(f"This machine is now in the mesh of {who}.")
                    self.end()
                    return
                self.say("outcome", text(part(message, "progress"), "text"))
        except PeerinferError as error:
            self.say("outcome", str(error))

    def _host(self) -> str:
        """The pairing address of the mesh that is chosen."""
        chosen = self._chosen
        if chosen is None:
            return ""
        host, _, port = chosen.address.rpartition(":")
        return f"{host}:{chosen.pairing_port or port}"


def _index_of(chosen: Neighbour | None, inviting: list[Neighbour]) -> int | None:
    """Where the mesh that was chosen stands now. The only one is chosen by itself, but never instead of another."""
    if chosen is None:
        return 0 if len(inviting) == 1 else None
    return next((at for at, each in enumerate(inviting) if each.address == chosen.address), None)
