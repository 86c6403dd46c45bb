"""A solver's child that never comes back from a task, as native code may."""

from __future__ import annotations

import time
from collections.abc import Sequence


class EndlessService:
    """Keeps whoever asks waiting."""

    def __call__(self, kind: int, body: memoryview, emit: object) -> Sequence[bytes]:
        """One call."""
        while True:
            time.sleep(1.0)


def open_service() -> EndlessService:
    """The service of a fresh child."""
    return EndlessService()
