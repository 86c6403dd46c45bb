"""The graph of the mesh: arrows or the mouse point at a node, Enter opens it."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Region
from textual.message import Message

from tui.picture.graph import Drawn, draw_graph, order_of
from tui.picture.layout import Place
from tui.picture.subject import Look
from tui.widgets.picture import Picture


class MeshGraph(Picture, can_focus=True):
    """Draws a look at the mesh as large as it may be."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "point(-1, 0)", "Point", show=False),
        Binding("right", "point(1, 0)", "Point", show=False),
        Binding("up", "point(0, -1)", "Point", show=False),
        Binding("down", "point(0, 1)", "Point", show=False),
        Binding("enter", "open", "Node"),
    ]

    class NodeOpened(Message):
        """A person wants to know all of a node."""

        def __init__(self, node: str) -> None:
            super().__init__()
            self.node = node

    class Pointed(Message):
        """A person points at the card in this region of the graph."""

        def __init__(self, region: Region) -> None:
            super().__init__()
            self.region = region

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._room = (80, 20)
        self._look: Look | None = None
        self._drawn = Drawn([])
        self.pointed = ""
        """The node that is pointed at."""

    def look(self, look: Look, width: int, height: int) -> None:
        """Draws the mesh anew, in a view of this size."""
        order = order_of(look)
        if self.pointed not in order:
            self.pointed = look.state.node if look.state.node in order else (order[0] if order else "")
        self._look = Look(look.state, look.instance, self.pointed if self.has_focus else "", look.is_active)
        self._room = (max(8, width), max(4, height))
        self._drawn = draw_graph(self._look, *self._room)
        self.show(self._drawn.rows)

    def fit(self, width: int, height: int) -> None:
        """Draws what it shows in a view of another size."""
        if self._look is not None:
            self.look(self._look, width, height)

    def action_point(self, x: int, y: int) -> None:
        """Points at the next node in a direction."""
        here = self._drawn.places.get(self.pointed)
        if here is None:
            return
        ahead = [(_far(here, place, x, y), node) for node, place in self._drawn.places.items()]
        nearest = min(((far, node) for far, node in ahead if far is not None), default=None)
        if nearest is not None:
            self._point(nearest[1])

    def action_open(self) -> None:
        """Opens the node that is pointed at."""
        if self.pointed:
            self.post_message(self.NodeOpened(self.pointed))

    def on_click(self, event: events.Click) -> None:
        """The mouse points at a card; a second click opens it."""
        node = self._drawn.node_at(event.x, event.y)
        if node and event.chain > 1:
            self.post_message(self.NodeOpened(node))
        elif node:
            self._point(node)

    def on_focus(self) -> None:
        """Shows what is pointed at."""
        self._point(self.pointed)

    def on_blur(self) -> None:
        """Shows it no more."""
        self._point(self.pointed)

    def _point(self, node: str) -> None:
        self.pointed = node
        if self._look is not None:
            self.look(self._look, *self._room)
        if (place := self._drawn.places.get(node)) is not None:
            self.post_message(self.Pointed(Region(place.x, place.y, place.width, place.height)))


class GraphScroll(VerticalScroll, can_focus=False):
    """Room for a graph that is taller than the terminal."""

    def on_resize(self) -> None:
        """More or less room is another picture."""
        region = self.scrollable_content_region
        self.query_one(MeshGraph).fit(region.width, region.height)

    def on_mesh_graph_pointed(self, message: MeshGraph.Pointed) -> None:
        """Brings the card into view."""
        message.stop()
        self.scroll_to_region(message.region, animate=False)


def _far(here: Place, there: Place, x: int, y: int) -> float | None:
    """How far `there` is in the direction; None if it lies elsewhere."""
    across, down = there.middle[0] - here.middle[0], there.middle[1] - here.middle[1]
    along = across * x + down * y
    if along <= 0:
        return None
    beside = abs(down * 4) if x else abs(across)
    return along + 2 * beside
