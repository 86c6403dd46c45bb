"""A recorded stream of a real mesh: three daemons, a model loaded over them and asked, one killed, unloaded.

The file is what `GET /peerinfer/events` gave, to the byte, and behind it the `state` that the daemon told a second
reader who came at its end: what was folded on the way must be the same.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.api.feed import Feed
from peerinfer.api.sse import numbered_event
from peerinfer.control.apply import apply
from peerinfer.control.codec import encode_state
from peerinfer.control.events import ClusterEvent
from peerinfer.control.state import ClusterState
from tests.control.histories import unhurried
from tui.mesh.view import MeshView

RECORDED = Path(__file__).parent / "recorded" / "a-node-is-killed.sse"


def heard(data: bytes) -> list[ClusterState | ClusterEvent]:
    """What a reader makes of the bytes."""
    feed = Feed()
    told = (feed.take(line) for line in data.splitlines(keepends=True))
    return [news for news in told if news is not None]


NEWS = heard(RECORDED.read_bytes())
WHOLE, LAST = NEWS[:-1], NEWS[-1]


def folded(news: list[ClusterState | ClusterEvent]) -> MeshView:
    view = MeshView()
    for at, each in enumerate(news):
        view.take(each, float(at), float(at))
    return view


def test_what_was_folded_on_the_way_is_what_the_daemon_told_at_the_end() -> None:
    assert len(WHOLE) > 100
    assert isinstance(LAST, ClusterState)
    assert folded(WHOLE).state == LAST


def test_the_log_tells_the_evening() -> None:
    lines = [timed.line.text for timed in folded(WHOLE).lines]
    story = [
        "smollm2-135m-instruct.q4_1 is being loaded: ",
        "smollm2-135m-instruct.q4_1 is ready after ",
        "bedroom-pc does not answer.",
        "bedroom-pc left; its layers ",
        "smollm2-135m-instruct.q4_1 was unloaded.",
    ]
    found = [next((line for line in lines if line.startswith(begin)), "") for begin in story]
    assert all(found), lines
    assert [lines.index(line) for line in found] == sorted(lines.index(line) for line in found)


@unhurried
@given(st.sets(st.integers(1, len(WHOLE) - 1), max_size=5))
def test_a_reader_who_was_cut_off_anywhere_ends_with_the_same(cuts: set[int]) -> None:
    """At each cut a new connection begins with the state of that moment, and its numbers."""
    view, state = MeshView(), WHOLE[0]
    assert isinstance(state, ClusterState)
    for at, news in enumerate(WHOLE):
        if not isinstance(news, ClusterState):
            state = apply(state, news)
        if at in cuts:
            for again in heard(numbered_event("state", at, encode_state(state))):
                view.take(again, float(at), float(at))
        else:
            view.take(news, float(at), float(at))
    assert view.state == LAST
