"""Removing a node from the mesh, and leaving it oneself: both ask first."""

from __future__ import annotations

from tui.face import Face
from tui.mesh.people import shown_name
from tui.mesh.told import text
from tui.screens.confirm import ConfirmDialog
from tui.words import SHORT_ID, harmless


def ask_to_remove(face: Face, node: str) -> None:
    """Removes `node` if a person says yes."""
    state = face.view.state
    if state is None or state.member(node) is None:
        return
    if node == state.node:
        ask_to_leave(face)
        return
    name = shown_name(node, state)

    async def remove() -> None:
        await face.act("remove", {"node": node})
        face.tell(f"{name} is no longer a member; no machine here talks to it.")

    face.push_screen(
        ConfirmDialog(
            f"Remove {name} from the mesh?",
            f"The mesh changes its keys, and {name} can only come back by a new invitation. Its layers go to others.",
        ),
        lambda answer: face.in_background(remove, "membership") if answer else None,
    )


def ask_to_leave(face: Face) -> None:
    """Leaves the mesh if a person says yes."""

    async def leave() -> None:
        left = await face.act("leave")
        face.tell(f"This machine has left; it is a mesh of its own now, {harmless(text(left, 'mesh'))[:SHORT_ID]}.")

    face.push_screen(
        ConfirmDialog(
            "Leave the mesh with this machine?",
            "It becomes a mesh of one. To come back it needs a new invitation.",
        ),
        lambda answer: face.in_background(leave, "membership") if answer else None,
    )
