"""Reads what the daemon told as JSON, with distrust: what is missing or of another type counts as empty. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, cast

Told = Mapping[str, Any]
NOTHING: Final[Told] = {}


def text(told: Told, key: str) -> str:
    """A text; empty for anything else."""
    value = told.get(key)
    return value if isinstance(value, str) else ""


def number(told: Told, key: str) -> float | None:
    """A finite number from 0; None for anything else."""
    value = told.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if 0 <= value < math.inf else None
    except OverflowError:  # a whole number beyond all floats
        return None


def flag(told: Told, key: str) -> bool:
    """Whether it is true."""
    return told.get(key) is True


def part(told: Told, key: str) -> Told:
    """An object; an empty one for anything else."""
    value = told.get(key)
    return cast(Told, value) if isinstance(value, dict) else NOTHING


def parts(told: Told, key: str, most: int) -> list[Told]:
    """The first `most` objects of a list."""
    value = told.get(key)
    items = cast(list[object], value)[:most] if isinstance(value, list) else []
    return [cast(Told, item) for item in items if isinstance(item, dict)]


def texts(told: Told, key: str, most: int) -> list[str]:
    """The first `most` texts of a list."""
    value = told.get(key)
    items = cast(list[object], value)[:most] if isinstance(value, list) else []
    return [item for item in items if isinstance(item, str)]


def pair(told: Told, key: str) -> tuple[int, int]:
    """Two whole numbers, such as a range of layers; zeros for anything else."""
    match told.get(key):
        case [int() as first, int() as last]:
            return first, last
        case _:
            return 0, 0
