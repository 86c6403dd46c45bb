"""The line at the top: where one is, which mesh, who leads, and how this terminal stands to the node."""

from __future__ import annotations

from typing import Final

from peerinfer.control.state import Liveness
from tui.feed import Contact
from tui.mesh.people import shown_name
from tui.mesh.view import MeshView
from tui.picture.canvas import Role, Runs
from tui.widgets.picture import Picture
from tui.words import SHORT_ID, harmless

CONTACTS: Final = {
    Contact.SEEKING: ("looking for the node", Role.WARNING),
    Contact.LIVE: ("live", Role.GOOD),
    Contact.LOST: ("the node does not answer: this is what was known last", Role.BAD),
    Contact.ABSENT: ("no node runs here", Role.BAD),
    Contact.STUCK: ("the node cannot be followed", Role.BAD),
    Contact.OTHER_VERSION: ("another version", Role.WARNING),
}


class TitleLine(Picture):
    """One line."""

    DEFAULT_CSS = """
    TitleLine { height: 1; background: $panel; padding: 0 1; }
    """

    def look(self, where: str, view: MeshView, contact: Contact) -> None:
        """Draws it anew."""
        words, role = CONTACTS[contact]
        runs: Runs = [("peerinfer", Role.STRONG), (f" · {where}", Role.ACCENT), (f" · {words}", role)]
        state = view.state
        if state is not None:
            alive = sum(member.state is Liveness.ALIVE for member in state.members)
            nodes = f"{alive} of {len(state.members)} nodes" if alive != len(state.members) else f"{alive} nodes"
            runs.append(
                (f" · mesh {harmless(state.mesh)[:SHORT_ID]} · {nodes}".replace(" 1 nodes", " 1 node"), Role.PLAIN)
            )
            if state.leader is None:
                runs.append((" · nobody leads", Role.WARNING))
            else:
                runs.append((f" · {shown_name(state.leader, state)} leads", Role.PLAIN))
        self.show([runs])
