"""What nodes say to each other about the parts of a model, as the bytes of questions and answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from peerinfer.errors import BadFrame
from peerinfer.models.manifest import CHUNKS_MAX, PARTS_MAX
from peerinfer.models.swarm import JOB_CHUNKS_MAX
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack

QUESTION_MAX_BYTES: Final = 64 * 1024
_HEX: Final = frozenset("0123456789abcdef")


class Wanted(StrEnum):
    """What is asked for."""

    MANIFEST = "manifest"
    """Answer: the manifest's bytes."""
    HEADER = "header"
    """Of the file `numbers[0]` of the model. Answer: its bytes."""
    HOLDINGS = "holdings"
    """Answer: a bit for each tensor (bit n % 8 of byte n // 8), set if it can be had here."""
    ORIGIN = "origin"
    """Answer: where its files came from (`pull/origin.py`); no bytes if that is not known."""
    CHUNKS = "chunks"
    """Answer: the bytes of the chunks `numbers`, in that order."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about the model that `digest` names."""

    wanted: Wanted
    digest: str
    numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises `ValueError` for what cannot be meant."""
        if len(self.digest) != 64 or not set(self.digest) <= _HEX:
            raise ValueError("a digest that is none")
        limit = {Wanted.HEADER: PARTS_MAX, Wanted.CHUNKS: CHUNKS_MAX}.get(self.wanted, 0)
        counts = {Wanted.HEADER: range(1, 2), Wanted.CHUNKS: range(1, JOB_CHUNKS_MAX + 1)}
        if len(self.numbers) not in counts.get(self.wanted, range(1)):
            raise ValueError("too few or too many numbers")
        if not all(0 <= number < limit for number in self.numbers):
            raise ValueError("a number out of range")


def encode_question(question: Question) -> bytes:
    """The bytes of a question."""
    return pack(pack_fields(question))


def decode_question(data: bytes) -> Question:
    """The question in `data`. Raises `BadFrame`."""
    try:
        return unpack_fields(Question, unpack(data, QUESTION_MAX_BYTES))
    except ValueError as error:
        raise BadFrame(f"A question about a model that cannot be read: {error}.") from None


def bits_of(numbers: Sequence[int], count: int) -> bytes:
    """`count` bits, of which `numbers` are set."""
    bits = bytearray(-(-count // 8))
    for number in numbers:
        bits[number // 8] |= 1 << (number % 8)
    return bytes(bits)
