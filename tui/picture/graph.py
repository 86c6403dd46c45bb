"""The graph of the mesh: cards, and the ways of tokens and links between them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tui.picture.canvas import Canvas, Role, Runs
from tui.picture.card import draw, height_of
from tui.picture.layout import Place, arrange
from tui.picture.subject import Look, Subject
from tui.picture.ways import draw_way, ways_of
from tui.words import fit

EMPTY: Final = "No node has told of itself yet."


@dataclass(slots=True)
class Drawn:
    """A picture, and where each node is in it."""

    rows: list[Runs]
    places: dict[str, Place] = field(default_factory=dict[str, Place])

    def node_at(self, x: int, y: int) -> str:
        """The node whose card covers a cell; empty if there is none."""
        return next((node for node, place in self.places.items() if place.holds(x, y)), "")


def order_of(look: Look) -> list[str]:
    """Nodes as they stand: the ring of the placement first, then this node, then the others by id."""
    ring = list(dict.fromkeys(place.node for place in look.instance.stages)) if look.instance is not None else []
    members = [member.id for member in look.state.members]
    own = [look.state.node] if look.state.node in members else []
    return [node for node in dict.fromkeys((*ring, *own, *members)) if node in members]


def draw_graph(look: Look, width: int, height: int) -> Drawn:
    """Draws it in `width` columns; it may be taller than `height`."""
    members = {member.id: member for member in look.state.members}
    subjects = {node: Subject(members[node], look.state, look.instance) for node in order_of(look)}
    if not subjects:
        return Drawn([[(fit(EMPTY, width), Role.FAINT)]])
    tallest = max(height_of(subject) for subject in subjects.values())
    places = dict(zip(subjects, arrange(len(subjects), width, height, tallest), strict=True))
    canvas = Canvas(width, max(place.bottom for place in places.values()))
    for way in ways_of(look, list(subjects)):
        draw_way(canvas, way, places)
    for node, place in places.items():
        size = (place.width, place.height)
        draw(canvas, (place.x, place.y), size, subjects[node], is_chosen=node == look.chosen)
    return Drawn(canvas.rows(), places)
