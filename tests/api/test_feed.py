"""The feed: states and events out of lines, and an error where one is missing."""

from __future__ import annotations

import pytest

from peerinfer.api.feed import Feed
from peerinfer.api.sse import numbered_event
from peerinfer.control.codec import encode_event, encode_state
from peerinfer.control.events import ClusterEvent, LeaderChanged
from peerinfer.control.state import Ballot, ClusterState
from peerinfer.errors import BadFrame
from tests.api.fakes import STATE

LED = LeaderChanged("aa" * 16, Ballot(1, "aa" * 16))


def state(number: int) -> bytes:
    return numbered_event("state", number, encode_state(STATE))


def change(number: int, data: str = encode_event(LED)) -> bytes:
    return numbered_event("change", number, data)


def heard(*events: bytes) -> list[ClusterState | ClusterEvent]:
    feed = Feed()
    found = (feed.take(line) for line in b"".join(events).splitlines(keepends=True))
    return [news for news in found if news is not None]


def test_a_state_then_events() -> None:
    assert heard(state(7), change(8), b": keep-alive\n\n", change(9)) == [STATE, LED, LED]


def test_what_is_not_known_is_passed_over_but_counted() -> None:
    other = numbered_event("moon", 99, "{}")
    assert heard(state(0), change(1, '{"type":"moon_rose"}'), other, change(2)) == [STATE, LED]


def test_a_state_in_between_begins_anew() -> None:
    assert heard(state(7), change(8), state(0), change(1)) == [STATE, LED, STATE, LED]


@pytest.mark.parametrize("numbers", [(7, 9), (7, 7), (7, 8, 8), (7, 6)])
def test_a_gap_or_a_double_is_an_error(numbers: tuple[int, ...]) -> None:
    with pytest.raises(BadFrame, match="missing"):
        heard(state(numbers[0]), *(change(number) for number in numbers[1:]))


def test_an_event_before_a_state_is_an_error() -> None:
    with pytest.raises(BadFrame, match="missing"):
        heard(change(1))


def test_nonsense_is_an_error() -> None:
    with pytest.raises(BadFrame, match="not JSON"):
        heard(numbered_event("state", 0, "moon"))
