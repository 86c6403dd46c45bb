"""The chronicle: every real change is told once and in order, and who folds along sees what the daemon sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control.apply import apply
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.codec import decode_event, decode_state, encode_event, encode_state
from peerinfer.control.events import ClusterEvent, LeaderChanged, MemberLeft
from peerinfer.control.state import Ballot, ClusterMember, ClusterState, Liveness
from tests.control import histories

START = ClusterState("a", "m", members=(ClusterMember("a", "attic", Liveness.ALIVE),))
LED = LeaderChanged("a", Ballot(1, "a"))
FREE = LeaderChanged(None, None)


@dataclass(eq=False)
class Reader:
    """Folds what it is told, after a trip through JSON."""

    state: ClusterState = START
    number: int = 0
    heard: list[ClusterEvent] = field(default_factory=list)
    is_over: bool = False

    def begin(self, chronicle: Chronicle) -> None:
        self.number, state = chronicle.follow(self)
        self.state = decode_state(encode_state(state).encode())

    def told(self, number: int, event: ClusterEvent) -> None:
        assert number == self.number + 1
        self.number = number
        self.heard.append(event)
        copied = decode_event(encode_event(event).encode())
        assert copied is not None
        self.state = apply(self.state, copied)

    def ended(self) -> None:
        assert not self.is_over
        self.is_over = True


@histories.unhurried
@given(histories.states, histories.histories, st.data())
def test_who_begins_at_any_point_sees_what_the_daemon_sees(
    state: ClusterState, history: list[ClusterEvent], data: st.DataObject
) -> None:
    begins = data.draw(st.lists(st.integers(0, len(history)), min_size=1, max_size=3))
    chronicle, readers = Chronicle(state), [Reader() for _ in begins]
    for at, event in enumerate([*history, None]):
        for reader, begin in zip(readers, begins, strict=True):
            if begin == at:
                reader.begin(chronicle)
        chronicle.record((event,) if event else ())
    for reader in readers:
        assert (reader.state, reader.number) == (chronicle.state, chronicle.number)


def test_only_what_changes_something_is_told() -> None:
    chronicle, reader = Chronicle(START), Reader()
    reader.begin(chronicle)
    chronicle.record((FREE, LED, LED, MemberLeft("x"), FREE))
    assert reader.heard == [LED, FREE]
    assert chronicle.number == 2


def test_who_leaves_is_told_nothing_more() -> None:
    chronicle, leaves, stays = Chronicle(START), Reader(), Reader()
    for reader in (leaves, stays):
        reader.begin(chronicle)
    chronicle.leave(leaves)
    chronicle.leave(leaves)
    chronicle.record((LED,))
    chronicle.end()
    assert (leaves.heard, leaves.is_over) == ([], False)
    assert (stays.heard, stays.is_over) == ([LED], True)


def test_after_the_end_nothing_is_told_and_a_new_follower_hears_that() -> None:
    chronicle, late = Chronicle(START), Reader()
    chronicle.record((LED,))
    chronicle.end()
    chronicle.record((FREE,))
    late.begin(chronicle)
    assert (late.number, late.state.leader, late.is_over) == (1, "a", True)
    chronicle.end()
