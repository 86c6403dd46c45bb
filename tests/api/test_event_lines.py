"""Lines of server-sent events: put together as the standard says, within limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.api import event_lines
from peerinfer.api.event_lines import EventLines, ServerEvent
from peerinfer.api.sse import numbered_event
from peerinfer.errors import BadFrame


def events(raw: bytes) -> list[ServerEvent]:
    lines = EventLines()
    found = (lines.take(line) for line in raw.splitlines(keepends=True))
    return [event for event in found if event is not None]


def test_what_the_server_writes_is_read() -> None:
    raw = numbered_event("state", 7, '{"a":1}') + b": keep-alive\n\n" + numbered_event("change", 8, "{}")
    assert events(raw) == [ServerEvent("state", 7, b'{"a":1}'), ServerEvent("change", 8, b"{}")]


def test_the_standard_is_kept() -> None:
    raw = b"data:x\r\ndata: y\nretry: 5\nunknown\nid: 3\n\nevent: empty\n\ndata\n\n"
    assert events(raw) == [ServerEvent("", 3, b"x\ny"), ServerEvent("", 3, b"")]


@pytest.mark.parametrize("number", [b"x", b"-1", b"", b"1" * 20, "\u0663".encode()])
def test_ids_are_numbers(number: bytes) -> None:
    with pytest.raises(BadFrame, match="no number"):
        events(b"id: " + number + b"\n")


def test_an_event_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_lines, "DATA_MAX_BYTES", 8)
    assert events(b"data: 1234567\n\ndata: 1234567\n\n")
    with pytest.raises(BadFrame, match="limit of 8"):
        events(b"data: 123\ndata: 4567\n\n")


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    try:
        events(b"id:" + raw)
        events(raw)
    except BadFrame:
        pass
