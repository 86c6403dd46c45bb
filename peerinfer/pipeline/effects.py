"""What the batcher wants done, in this order."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.engine.base import Order
from peerinfer.net.frames import Row


@dataclass(frozen=True, slots=True)
class RunStep:
    """Send this step round the ring: orders first, then rows with their token ids."""

    step: int
    rows: tuple[Row, ...]
    tokens: tuple[int, ...]
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class EndRequest:
    """Tell `gateway` that its request ends without a further token."""

    gateway: str
    request_id: str
    code: str
    reason: str


Effect = RunStep | EndRequest
