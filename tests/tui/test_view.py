"""The view folds what the daemon tells to the state that the daemon has, whatever comes and whenever it begins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.api.feed import Feed
from peerinfer.api.sse import numbered_event
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.codec import encode_event, encode_state
from peerinfer.control.events import ClusterEvent
from peerinfer.control.state import ClusterState
from tests.control import histories
from tests.tui.scenes import five_nodes, one_node
from tui.mesh.hops import main_instance
from tui.mesh.view import LINES_MAX, MeshView
from tui.picture.canvas import Runs, plain, width_of
from tui.picture.graph import draw_graph
from tui.picture.node import describe
from tui.picture.ring import headline, strip, table
from tui.picture.subject import Look
from tui.words import cells


class Wire:
    """A connection as the daemon writes it, and the view at its end."""

    def __init__(self, chronicle: Chronicle, view: MeshView) -> None:
        self._feed, self._view, self._chronicle = Feed(), view, chronicle
        number, state = chronicle.follow(self)
        self._send(numbered_event("state", number, encode_state(state)))

    def told(self, number: int, event: ClusterEvent) -> None:
        self._send(numbered_event("change", number, encode_event(event)))

    def ended(self) -> None:
        pass

    def cut(self) -> None:
        self._chronicle.leave(self)

    def _send(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            if (news := self._feed.take(line)) is not None:
                self._view.take(news, 1.0, 1_700_000_000.0)


@histories.unhurried
@given(histories.states, histories.histories, st.data())
def test_the_view_has_the_daemons_state_through_broken_connections(
    state: ClusterState, history: list[ClusterEvent], data: st.DataObject
) -> None:
    breaks = data.draw(st.sets(st.integers(0, len(history)), max_size=3))
    chronicle, view = Chronicle(state), MeshView()
    wire = Wire(chronicle, view)
    for at, event in enumerate(history):
        if at in breaks:
            wire.cut()
        chronicle.record((event,))
        if at in breaks:
            wire = Wire(chronicle, view)
        assert view.state == chronicle.state
    assert view.state == chronicle.state


@histories.unhurried
@given(histories.states, histories.histories)
def test_every_sentence_is_one_line_that_a_terminal_can_show(state: ClusterState, history: list[ClusterEvent]) -> None:
    view = MeshView()
    for at, news in enumerate([state, *history]):
        view.take(news, float(at), 0.0)
    for timed in view.lines:
        assert timed.line.text.isprintable(), timed


@histories.unhurried
@given(histories.states, st.integers(20, 220), st.integers(4, 70), st.booleans())
def test_any_mesh_can_be_drawn_at_any_size(state: ClusterState, width: int, height: int, is_active: bool) -> None:
    instance = main_instance(state)
    drawn = draw_graph(Look(state, instance, state.node, is_active), width, height)
    fits(drawn.rows, width)
    for member in state.members:
        assert member.id in drawn.places
        is_shown(describe(state, member.id, width))
    if instance is not None:
        is_shown([headline(instance, state, 1.0), *table(instance, state, width)])
        fits(strip(instance, state, width), width)


def fits(rows: list[Runs], width: int) -> None:
    is_shown(rows)
    assert all(width_of(runs) <= width for runs in rows)


def is_shown(rows: list[Runs]) -> None:
    """Nothing in it that a terminal would obey."""
    for line in plain(rows).split("\n"):
        assert line.isprintable(), line
        assert cells(line) >= 0


def test_the_log_keeps_its_length_and_counts_on() -> None:
    view = MeshView()
    view.take(one_node(), 0.0, 0.0)
    for at in range(LINES_MAX + 50):
        view.take(five_nodes() if at % 2 else one_node(), float(at), 0.0)
    assert len(view.lines) == LINES_MAX
    assert view.told > LINES_MAX
