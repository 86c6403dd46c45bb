"""The mesh: nodes and their links, the ring of the chosen model with its times, what happened."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui.face import face_of
from tui.mesh.hops import main_instance
from tui.picture.subject import Look
from tui.screens.base import FaceScreen
from tui.screens.membership import ask_to_remove
from tui.screens.node import NodeDialog
from tui.widgets.event_log import EventLog
from tui.widgets.graph import GraphScroll, MeshGraph
from tui.widgets.ring import RingPanel


class MeshScreen(FaceScreen):
    """Topology, ring and events."""

    WHERE = "mesh"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "next_model", "Model"),
        Binding("x", "remove", "Remove"),
        Binding("c", "chat", "Chat with it", show=False),
        Binding("i", "app.invite", "Invite"),
        Binding("j", "app.join", "Join"),
    ]

    def body(self) -> ComposeResult:
        """See `FaceScreen`."""
        with GraphScroll(id="graph-room"):
            yield MeshGraph(id="graph")
        with VerticalScroll(id="ring-room", can_focus=False):
            yield RingPanel(id="ring")
        yield EventLog(id="events")

    def on_mount(self) -> None:
        """The arrows are for the graph."""
        self.query_one(MeshGraph).focus()

    def mesh_changed(self) -> None:
        """See `FaceScreen`."""
        super().mesh_changed()
        face = face_of(self)
        state, now = face.view.state, time.monotonic()
        self.query_one(EventLog).follow(face.view)
        if state is None:
            return
        instance = main_instance(state, face.chosen)
        is_active = instance is not None and face.view.rates.now(instance.id, now) > 0
        self.query_one(RingPanel).look(state, instance, face.view.rates, now, tall=not self.has_class("-short"))
        room = self.query_one(GraphScroll).scrollable_content_region
        self.query_one(MeshGraph).look(Look(state, instance, is_active=is_active), room.width, room.height)

    def action_next_model(self) -> None:
        """Looks at the next loaded model."""
        face = face_of(self)
        ids = list(dict.fromkeys(one.id for one in face.view.state.instances)) if face.view.state is not None else []
        if len(ids) < 2:
            face.tell("There is no other model to look at.")
            return
        current = main_instance(face.view.state, face.chosen) if face.view.state is not None else None
        at = ids.index(current.id) if current is not None else -1
        face.chosen = ids[(at + 1) % len(ids)]
        self.mesh_changed()

    def action_chat(self) -> None:
        """Chats with the model that is looked at."""
        face = face_of(self)
        instance = main_instance(face.view.state, face.chosen) if face.view.state is not None else None
        face.talk(model=instance.model if instance is not None else "")

    def action_remove(self) -> None:
        """Removes the node that is pointed at, after asking."""
        face = face_of(self)
        node = self.query_one(MeshGraph).pointed
        if face.view.state is not None and face.view.state.member(node) is not None:
            ask_to_remove(face, node)

    def on_mesh_graph_node_opened(self, message: MeshGraph.NodeOpened) -> None:
        """All of a node."""
        message.stop()
        face_of(self).push_screen(NodeDialog(message.node))
