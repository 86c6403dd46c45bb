"""Whether a member is here, by this node's own arrival times of its heartbeats."""

from __future__ import annotations

import enum
from typing import Final

UNREACHABLE_AFTER_S: Final = 2.0
"""Four missed heartbeats: nothing new is placed there."""
GONE_AFTER_S: Final = 10.0
"""Longer than a roam between Wi-Fi access points: what ran there is placed again."""


class Liveness(enum.StrEnum):
    """How a member stands."""

    ALIVE = "alive"
    UNREACHABLE = "unreachable"
    GONE = "gone"


def liveness(heard_at: float | None, since: float, now: float) -> Liveness:
    """State of a member last heard at `heard_at` (seconds, None = never) by a node that listens `since` then.

    Silence is not absence until the listener itself has listened for as long.
    """
    silence_s = now - (since if heard_at is None else heard_at)
    if silence_s >= GONE_AFTER_S:
        return Liveness.GONE
    if heard_at is None or silence_s >= UNREACHABLE_AFTER_S:
        return Liveness.UNREACHABLE
    return Liveness.ALIVE
