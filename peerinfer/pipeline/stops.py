"""Stop strings: text is let through until one is found; what might be the start of one waits. Pure."""

from __future__ import annotations

STOPS_MAX = 16
"""Stop strings of one request."""
STOP_LENGTH_MAX = 1024
"""Characters of one stop string."""


class StopFinder:
    """Looks for the first of several strings in text that comes in pieces."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """The part of the text so far that may be shown now. After a find, nothing more is."""
        if self.found or not self._stops:
            return "" if self.found else text
        text = self._held + text
        places = [place for place in map(text.find, self._stops) if place >= 0]
        if places:
            self.found = True
            self._held = ""
            return text[: min(places)]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text that waited, when no more will come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
