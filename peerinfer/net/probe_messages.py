"""Probes of a link's bandwidth: a question whether it suits, a burst of chunks, and what the receiver measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peerinfer.net.messages import Tag, message

CHUNK_BYTES: Final = 8 * 1024
"""Small, so that whatever else waits for the link goes between two of them."""
BURST_MAX_BYTES: Final = 1024 * 1024
"""8 ms of a gigabit link; slow links get smaller bursts."""


@message(Tag.PROBE_ASK)
@dataclass(frozen=True, slots=True)
class ProbeAsk:
    """May I send you a burst of so many bytes?"""

    number: int
    size_bytes: int


@message(Tag.PROBE_READY)
@dataclass(frozen=True, slots=True)
class ProbeReady:
    """The answer: yes, or not now, since requests run here or somebody else measures."""

    number: int
    is_welcome: bool


@message(Tag.PROBE_CHUNK)
@dataclass(frozen=True, slots=True)
class ProbeChunk:
    """One piece of the burst, sent in the lane of activations."""

    number: int
    is_last: bool
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) > CHUNK_BYTES:
            raise ValueError("a chunk that is too large")


@message(Tag.PROBE_RESULT)
@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the receiver saw of the burst: so many bytes in so many microseconds, the beginning not counted."""

    number: int
    size_bytes: int
    took_us: int
