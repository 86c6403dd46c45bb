"""A solver's child that answers with what is no plan: the kind of rubbish is named by the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence

from peerinfer.packing import pack

ANSWERS = {
    "bytes": b"\xc1\xff",
    "fields": pack([1, 2, 3]),
    "stranger": pack([["nobody", "else"], [1, 2], True, ""]),
    "lengths": pack([["n0", "n1"], [1], True, ""]),
    "layers": pack([["n0", "n1"], [-5, 10**9], True, ""]),
    "too much": bytes(1 << 20),
}


class RubbishService:
    """Answers everything alike."""

    def __call__(self, kind: int, body: memoryview, emit: object) -> Sequence[bytes]:
        """One call."""
        return [ANSWERS[os.environ["RUBBISH"]]]


def open_service() -> RubbishService:
    """The service of a fresh child."""
    return RubbishService()
