"""What all full screens share: the line at the top, the keys at the bottom, and the news of the mesh between."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer

from tui.face import face_of
from tui.widgets.title import TitleLine


class FaceScreen(Screen[None]):
    """One of the places that the function keys lead to."""

    WHERE: ClassVar[str] = ""

    def compose(self) -> ComposeResult:
        """Top, body, bottom."""
        yield TitleLine()
        yield from self.body()
        yield Footer(show_command_palette=False, compact=True)

    def body(self) -> ComposeResult:
        """What is between."""
        yield from ()

    def mesh_changed(self) -> None:
        """Shows the mesh as it is now; also called when the screen is shown or takes another size."""
        face = face_of(self)
        self.query_one(TitleLine).look(self.WHERE, face.view, face.contact.contact)

    def on_screen_resume(self) -> None:
        """What happened meanwhile was not drawn."""
        self.call_after_refresh(self.mesh_changed)

    def on_resize(self) -> None:
        """Another size is another picture."""
        self.call_after_refresh(self.mesh_changed)
