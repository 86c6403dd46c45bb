"""No node runs on this machine, or one of another version: what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker

from peerinfer.errors import HomeError, PeerinferError
from tui.daemon import start_daemon
from tui.face import face_of
from tui.feed import Contact
from tui.screens.dialog import Dialog
from tui.widgets.plain import words
from tui.words import sentence

AS_BEFORE: Final = ("--as-before",)
"""A node that this face did not start keeps its name and its ports."""
EXPLAINED: Final = {
    Contact.ABSENT: "s starts it in the background; q leaves.",
    Contact.STUCK: "r stops it and starts it anew; q leaves.",
    Contact.OTHER_VERSION: "r stops it and starts it anew in this version; c goes on as it is; q leaves.",
}


class AbsentDialog(Dialog[None]):
    """Stays until there is contact, or a person leaves."""

    HEADING = "The node of this machine"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start the node"),
        Binding("r", "restart", "Restart it"),
        Binding("c", "go_on", "Go on as it is"),
        Binding("escape", "close", "Close", show=False),
        Binding("q", "app.exit_now", "Leave"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._worker: Worker[None] | None = None

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        yield words("", id="what")
        yield words("", id="how", classes="hint")
        yield words("", id="doing")

    def on_mount(self) -> None:
        """Says what is wrong."""
        self.mesh_changed()

    def mesh_changed(self) -> None:
        """Follows the contact, and goes when there is one."""
        connection = face_of(self).contact
        if connection.contact is Contact.LIVE:
            self.end()
            return
        self.query_one("#what", Static).update(Content(sentence(connection.sentence)))
        self.query_one("#how", Static).update(Content(EXPLAINED.get(connection.contact, "")))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that make sense now."""
        del parameters
        contact = face_of(self).contact.contact
        if action == "start":
            return contact in {Contact.ABSENT, Contact.LOST}
        if action == "restart":
            return contact in {Contact.OTHER_VERSION, Contact.STUCK}
        if action == "go_on":
            return contact is Contact.OTHER_VERSION
        return action != "close"

    def action_start(self) -> None:
        """Starts the daemon as a process."""
        self._once(self._start)

    def action_restart(self) -> None:
        """Stops the one that runs, and starts ours."""
        self._once(self._restart)

    def _once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A second press while it is done would begin it twice."""
        if self._worker is None or self._worker.is_finished:
            self._worker = self.run_worker(work, group="daemon")

    def action_go_on(self) -> None:
        """Takes the other version as it is."""
        face_of(self).feed.accept_version()

    async def _start(self) -> None:
        self._doing("Starting the node…")
        try:
            said = await start_daemon(face_of(self).home, face_of(self).options or AS_BEFORE)
        except HomeError as error:
            self._doing(str(error))
        else:
            self._doing(said)

    async def _restart(self) -> None:
        self._doing("Stopping the node…")
        try:
            await face_of(self).act("down")
        except PeerinferError as error:
            self._doing(str(error))
            return
        await face_of(self).feed.until_absent()
        await self._start()

    def _doing(self, text: str) -> None:
        if self.is_mounted:
            self.query_one("#doing", Static).update(Content("\n".join(map(sentence, text.splitlines()))))
