"""Models in several files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerinfer.models.gguf import GgufHeader


@dataclass(frozen=True, slots=True)
class PartName:
    stem: str
    number: int
    count: int


def parse_part_name(file_name: str) -> PartName | None:
    return None


def part_file_names(part: PartName) -> tuple[str, ...]:
    return ()


def merge_headers(headers: Sequence[GgufHeader]) -> GgufHeader:
    return headers[0]
