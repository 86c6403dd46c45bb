"""The terminal face: three screens over one feed, what any of them can open, and how one leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui.face import CHAT, Face
from tui.feed import Contact
from tui.screens.absent import AbsentDialog
from tui.screens.base import FaceScreen
from tui.screens.chat import ChatScreen
from tui.screens.dialog import Dialog
from tui.screens.invite import InviteDialog
from tui.screens.join import JoinDialog
from tui.screens.leave import LeaveDialog
from tui.screens.membership import ask_to_leave
from tui.screens.mesh import MeshScreen
from tui.screens.models import ModelsScreen
from tui.widgets.tasks import Tasks

BEAT_S: Final = 2.0
"""Between redraws for time alone: rates fall to nothing when no event comes."""
TROUBLES: Final = (Contact.ABSENT, Contact.STUCK, Contact.OTHER_VERSION)
"""What a person must decide about."""
WIDE, TALL, TOWERING = 120, 34, 50
"""Columns and rows from which there is room for more."""


class PeerinferApp(Face):
    """The app."""

    TITLE = "peerinfer"
    CSS_PATH = ["styles/face.tcss", "styles/dialogs.tcss"]  # noqa: RUF012  # as Textual declares it
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "mesh": MeshScreen,
        CHAT: ChatScreen,
        "models": ModelsScreen,
    }
    DEFAULT_MODE = "mesh"
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012
        (0, "-short"),
        (TALL, "-tall"),
        (TOWERING, "-towering"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1,1", "go('mesh')", "Mesh", key_display="F1"),
        Binding("f2,2", "go('chat')", "Chat", key_display="F2"),
        Binding("f3,3", "go('models')", "Models", key_display="F3"),
        Binding("i", "invite", "Invite", show=False),
        Binding("j", "join", "Join", show=False),
        Binding("t", "theme", "Light or dark", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "leave", "Leave"),
    ]

    def on_mount(self) -> None:
        """Follows the daemon from now on."""
        self.run_worker(self.feed.run, group="feed")
        self.set_interval(BEAT_S, self.mesh_moved)

    def on_mesh_changed(self) -> None:
        """The screen in front shows it, and a dialog over it; others when they come to the front."""
        for watch in self.watchers:
            watch()
        for screen in self.screen_stack:
            if isinstance(screen, FaceScreen | Dialog) and screen.is_mounted:
                screen.mesh_changed()
                screen.check_idle()  # one that wanted to be drawn just as another came over it would wait for news
        if self.contact.contact in TROUBLES and not self._is_telling_absence():
            self.push_screen(AbsentDialog())

    def _is_telling_absence(self) -> bool:
        return any(isinstance(screen, AbsentDialog) for screen in self.screen_stack)

    # ---- keys

    def action_go(self, mode: str) -> None:
        """Goes to a screen; not from under a dialog."""
        if not isinstance(self.screen, Dialog):
            self.switch_mode(mode)

    def action_invite(self) -> None:
        """Opens an invitation."""
        if not isinstance(self.screen, Dialog):
            self.push_screen(InviteDialog())

    def action_join(self) -> None:
        """Joins another mesh."""
        if not isinstance(self.screen, Dialog):
            self.push_screen(JoinDialog())

    def action_theme(self) -> None:
        """From dark to light and back."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_help(self) -> None:
        """Shows or hides the keys of where one is."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    async def action_quit(self) -> None:
        """Ctrl-Q, as `q`; it works where letters are typed, too."""
        self.action_leave()

    def action_leave(self) -> None:
        """Asks what becomes of the node, if it runs."""
        if self.contact.contact in {Contact.SEEKING, Contact.ABSENT}:
            self.exit()
        elif not isinstance(self.screen, LeaveDialog):
            self.push_screen(LeaveDialog(is_pulling=self._is_pulling()), self._left)

    def _is_pulling(self) -> bool:
        stacks = self._screen_stacks.values()
        return any(tasks.is_pulling for stack in stacks for screen in stack for tasks in screen.query(Tasks))

    def action_exit_now(self) -> None:
        """Leaves without a question."""
        self.exit()

    def _left(self, answer: str | None) -> None:
        if answer == "keep":
            self.exit()
        elif answer == "stop":
            self.in_background(self._stop_and_exit, "daemon")

    async def _stop_and_exit(self) -> None:
        self.tell("The node stops…")
        await self.act("down")
        await self.feed.until_absent()
        self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The command palette: all that keys do, by name."""
        yield from super().get_system_commands(screen)  # pyright: ignore[reportUnknownMemberType]
        yield SystemCommand("Mesh", "Nodes, links, the ring and what happened", lambda: self.action_go("mesh"))
        yield SystemCommand("Chat", "Talk to a model", lambda: self.action_go("chat"))
        yield SystemCommand("Models", "Load, pull, plan and delete models", lambda: self.action_go("models"))
        yield SystemCommand("Invite a machine", "Six digits and a QR code", self.action_invite)
        yield SystemCommand("Join a mesh", "By the digits that another machine shows", self.action_join)
        yield SystemCommand("Leave the mesh", "This machine becomes a mesh of one", lambda: ask_to_leave(self))
