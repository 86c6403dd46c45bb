"""What a pure machine asks of its door: the one effect that all of them share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send `message` to `node` (this node itself included: it is then delivered here)."""

    node: str
    message: object
