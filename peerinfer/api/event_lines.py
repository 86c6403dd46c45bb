"""Server-sent events read line by line, as the HTML standard (section 9.2.6) says, within limits. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peerinfer.errors import BadFrame

DATA_MAX_BYTES: Final = 4 * 1024 * 1024
"""The data of one event; the longest is a state."""
NUMBER_DIGITS_MAX: Final = 19
"""Digits of an id, which is a number in our streams: a signed 64-bit one."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name, its number, and its data of one or more lines."""

    name: str
    number: int
    data: bytes


class EventLines:
    """Puts lines together to events."""

    def __init__(self) -> None:
        self._name = ""
        self._number = 0
        self._data: list[bytes] = []
        self._size_bytes = 0

    def take(self, line: bytes) -> ServerEvent | None:
        """The event that `line` ends, if any. Comments and unknown fields are passed over. Raises `BadFrame`."""
        line = line.rstrip(b"\r\n")
        if not line:
            return self._end()
        field, _, value = line.partition(b":")
        self._set(field, value.removeprefix(b" "))
        return None

    def _set(self, field: bytes, value: bytes) -> None:
        match field:
            case b"event":
                self._name = value.decode("utf-8", "replace")
            case b"id":
                if not value.isdigit() or len(value) > NUMBER_DIGITS_MAX:
                    raise BadFrame("An event of the daemon has an id that is no number.")
                self._number = int(value)
            case b"data":
                self._size_bytes += len(value) + 1
                if self._size_bytes > DATA_MAX_BYTES:
                    raise BadFrame(f"An event of the daemon is over the limit of {DATA_MAX_BYTES} bytes.")
                self._data.append(value)
            case _:
                pass

    def _end(self) -> ServerEvent | None:
        name, data = self._name, self._data
        self._name, self._data, self._size_bytes = "", [], 0
        return ServerEvent(name, self._number, b"\n".join(data)) if data else None
