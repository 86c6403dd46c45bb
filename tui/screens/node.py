"""All that is known of one node."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui.face import face_of
from tui.mesh.people import shown_name
from tui.picture.node import describe
from tui.screens.dialog import Dialog
from tui.screens.membership import ask_to_remove
from tui.widgets.picture import Picture


class NodeDialog(Dialog[None]):
    """Follows the node while it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "remove", "Remove from the mesh")]

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def heading(self) -> str:
        """See `Dialog`."""
        state = face_of(self).view.state
        return shown_name(self._node, state) if state is not None else ""

    def body(self) -> ComposeResult:
        """See `Dialog`."""
        yield Picture(id="facts")

    def on_mount(self) -> None:
        """Shows it."""
        self.call_after_refresh(self.mesh_changed)

    def on_resize(self) -> None:
        """Another width wraps otherwise."""
        self.call_after_refresh(self.mesh_changed)

    def mesh_changed(self) -> None:
        """See `Dialog`."""
        super().mesh_changed()
        state = face_of(self).view.state
        if state is not None:
            facts = self.query_one("#facts", Picture)
            facts.show_wrapped(describe(state, self._node, facts.size.width))

    def action_remove(self) -> None:
        """Removes it, after asking."""
        ask_to_remove(face_of(self), self._node)
