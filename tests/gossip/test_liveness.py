"""Alive, unreachable, gone: by the time since the last heartbeat, as a table."""

from __future__ import annotations

import pytest

from peerinfer.gossip.liveness import Liveness, liveness


@pytest.mark.parametrize(
    ("heard_at", "since", "now", "expected"),
    [
        (100.0, 0.0, 100.0, Liveness.ALIVE),
        (100.0, 0.0, 101.9, Liveness.ALIVE),
        (100.0, 0.0, 102.0, Liveness.UNREACHABLE),
        (100.0, 0.0, 109.9, Liveness.UNREACHABLE),
        (100.0, 0.0, 110.0, Liveness.GONE),
        (None, 100.0, 100.0, Liveness.UNREACHABLE),
        (None, 100.0, 109.9, Liveness.UNREACHABLE),
        (None, 100.0, 110.0, Liveness.GONE),
    ],
)
def test_state_by_silence(heard_at: float | None, since: float, now: float, expected: Liveness) -> None:
    assert liveness(heard_at, since, now) is expected
