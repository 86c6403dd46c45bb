"""An invitation: six digits to read out, a QR code, the time that is left, and who asks to come in."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Digits

from peerinfer.errors import PeerinferError
from tui.face import face_of
from tui.mesh.told import Told, number, part, text
from tui.picture.qr import qr_rows
from tui.screens.dialog import Dialog
from tui.widgets.picture import Picture
from tui.widgets.plain import words
from tui.words import SHORT_ID, harmless, name_of, sentence

SETTLE_S: Final = 0.7
"""After a question was taken back: a key pressed then was meant for it, and answers no new one."""
URI_MAX: Final = 512
"""Characters of the link: addresses and a secret take a third of it."""


class InviteDialog(Dialog[None]):
    """The window is open while this is; closing it closes the window."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Let it in"),
        Binding("n", "answer(False)", "Do not"),
        Binding("c", "copy", "Copy the link"),
        Binding("i", "again", "Invite again"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._ends_at = 0.0
        self._asking: tuple[str, str] | None = None
        """Id and name of who knows the digits and waits."""
        self._settled_at = 0.0
        """From when on a key is meant for this question, and not for one that was just taken back."""
        self._is_open = False
        self._link = ""

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        with Horizontal(id="invitation"):
            with Vertical(id="digits-side"):
                yield words("Invite a machine", classes="strong")
                yield Digits("", id="digits")
                yield words("", id="left")
                yield words("On the other machine press j, or type:", classes="hint")
                yield words("", id="command")
                yield words("", id="address")
                yield words("", id="asking")
                yield words("", id="outcome")
            yield Picture(id="qr")
        yield words("", id="link", classes="hint")

    def on_mount(self) -> None:
        """Opens the window."""
        self.set_interval(1.0, self._count_down)
        self.action_again()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that make sense now."""
        del parameters
        if action == "answer":
            return self._asking is not None
        return self._is_open if action == "copy" else not self._is_open if action == "again" else True

    def action_again(self) -> None:
        """Opens a window."""
        if not self._is_open:
            self._is_open = True
            self.run_worker(self._invite, group="invite", exclusive=True)

    def action_copy(self) -> None:
        """Copies the link to the clipboard of the terminal."""
        face_of(self).copy_to_clipboard(self._link)
        face_of(self).tell("The link was copied.")

    def action_answer(self, answer: bool) -> None:
        """Lets in who asks, or does not."""
        if self._asking is not None and time.monotonic() >= self._settled_at:
            node, name = self._asking
            self._ask(None)
            self.run_worker(partial(self._answer, node, name, answer), group="answer")

    async def _invite(self) -> None:
        face = face_of(self)
        self.say("outcome", "")
        try:
            async for message in face.follow("invite", {"wait": True, "confirm": True}):
                if "result" in message:
                    joined = part(message, "result")
                    face.tell(f"{name_of(text(joined, 'name'), text(joined, 'node'))} is in the mesh.")
                    self._close()
                    self.end()
                    return
                self._take(part(message, "progress"))
        except PeerinferError as error:
            self.say("outcome", f"{sentence(str(error))} Press i to invite again.")
        self._close()

    def _take(self, told: Told) -> None:
        if asking := part(told, "asking"):
            node = harmless(text(asking, "node"))
            self._ask((node, name_of(text(asking, "name"), node)))
        elif gone := part(told, "withdrawn"):
            self._ask(None)
            self._settled_at = time.monotonic() + SETTLE_S
            self.say("outcome", f"{name_of(text(gone, 'name'), text(gone, 'node'))} asks no longer.")
        else:
            self._show_window(text(told, "code"), text(told, "uri")[:URI_MAX], number(told, "expires_s") or 0.0)

    def _show_window(self, code: str, uri: str, expires_s: float) -> None:
        self._ends_at = time.monotonic() + expires_s
        spoken = f"{code[:3]}-{code[3:6]}"
        self.query_one("#digits", Digits).update(spoken.replace("-", " "))
        at = re.search(r"[?&]at=([^&]+)", uri)
        self.say("command", f"peerinfer join {spoken}")
        self.say("address", f"at {at[1]}" if at else "")
        self._link = uri
        self.query_one("#qr", Picture).show(qr_rows(uri) if uri else [])
        self.say("link", f"Where mDNS does not reach: {uri}")
        self._count_down()
        self.refresh_bindings()

    def _ask(self, asking: tuple[str, str] | None) -> None:
        self._asking = asking
        question = ""
        if asking is not None:
            node, name = asking
            question = f"{name} ({node[:SHORT_ID]}) knows the digits. Let it in? y or n"
        self.say("asking", question)
        self.refresh_bindings()

    async def _answer(self, node: str, name: str, answer: bool) -> None:
        try:
            await face_of(self).act("answer", {"node": node, "accept": answer})
        except PeerinferError as error:
            face_of(self).complain(error)
        if not answer:
            self.say("outcome", f"{name} was not let in; the invitation stays open.")

    def _count_down(self) -> None:
        left = self._ends_at - time.monotonic()
        if self._is_open and left > 0:
            self.say("left", f"open for {left:.0f} more seconds")

    def _close(self) -> None:
        self._is_open = False
        self._ask(None)
        self.query_one("#digits", Digits).update("")
        self.query_one("#qr", Picture).show([])
        self.say("left", "closed")
        self.say("command", "")
        self.say("link", "")
        self.say("address", "")
