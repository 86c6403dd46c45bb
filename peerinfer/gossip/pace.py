"""How often a peer may make this node do something. Pure."""

from __future__ import annotations

from collections.abc import Collection


class Pace:
    """Remembers when each peer last got its way; a peer asks for nothing without bound."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}

    def allows(self, peer: str, what: str, gap_s: float, now: float) -> bool:
        """Whether `peer` may have `what` now, `gap_s` seconds after the last time at least; if so, it counts."""
        last = self._last.get((peer, what))
        if last is not None and now - last < gap_s:
            return False
        self._last[peer, what] = now
        return True

    def keep_only(self, peers: Collection[str]) -> None:
        """Forgets who is no member any more."""
        self._last = {key: at for key, at in self._last.items() if key[0] in peers}
