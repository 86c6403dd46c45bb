"""What a reader of `GET /peerinfer/events` makes of its lines: a state, then events without a gap. Pure."""

from __future__ import annotations

from peerinfer.api.event_lines import EventLines, ServerEvent
from peerinfer.control.codec import decode_event, decode_state
from peerinfer.control.events import ClusterEvent
from peerinfer.control.state import ClusterState
from peerinfer.errors import BadFrame


class Feed:
    """One connection, from its first line."""

    def __init__(self) -> None:
        self._lines = EventLines()
        self._number: int | None = None
        """Of the last event; None before the state."""

    def take(self, line: bytes) -> ClusterState | ClusterEvent | None:
        """What `line` brings to an end, if it is anything that is known here. Raises `BadFrame`."""
        event = self._lines.take(line)
        if event is None:
            return None
        if event.name == "state":
            self._number = event.number
            return decode_state(event.data)
        return self._changed(event) if event.name == "change" else None

    def _changed(self, event: ServerEvent) -> ClusterEvent | None:
        if self._number is None or event.number != self._number + 1:
            raise BadFrame("An event of the daemon is missing: ask it for the state again.")
        self._number = event.number
        return decode_event(event.data)
