"""Fields of a described mesh, fetched with type and range; whatever is wrong becomes one sentence with its path."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, NoReturn, cast

from peerinfer.errors import BadRequest

SHOWN_MAX: Final = 40
"""Characters of a bad value that are shown: enough to find it by."""
FREE_KEYS: Final = ("comment",)
"""Keys that anybody may add to any object for people to read; so may every key that begins with `x-`."""


class Fields:
    """One JSON object of the file, at `path`. Null counts as absent. Each method raises `BadRequest`."""

    def __init__(self, value: object, path: str, known: Sequence[str]) -> None:
        """Refuses what is no object, and keys that are not `known`: a typo must not pass for a default."""
        self.path = path
        if not isinstance(value, dict):
            refuse(path or "The file", "must be a JSON object", value)
        self._fields = cast(dict[str, object], value)
        for key in self._fields:
            if key not in known and key not in FREE_KEYS and not key.startswith("x-"):
                keys = ", ".join(known)
                raise BadRequest(
                    f"{self.at(_shown(key, quoted=False))} is not known; {path or 'the file'} takes {keys}."
                )

    def at(self, key: str) -> str:
        """The path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the field is there."""
        return self._fields.get(key) is not None

    def raw(self, key: str) -> object:
        """The value as it is; None if absent."""
        return self._fields.get(key)

    def whole(self, key: str, unit: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number of `unit`; required where there is no default."""
        if default is not None and not self.has(key):
            return default
        return whole_of(self._required(key), self.at(key), unit, low, high)

    def number(self, key: str, unit: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number of `unit`; required where there is no default."""
        if default is not None and not self.has(key):
            return default
        return number_of(self._required(key), self.at(key), unit, low, high)

    def word(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of `choices`."""
        if not self.has(key):
            return default
        value = self.raw(key)
        if value not in choices:
            refuse(self.at(key), f"must be one of {', '.join(choices)}", value)
        return str(value)

    def name(self, key: str, max_length: int) -> str:
        """A name of 1 to `max_length` characters that can be printed."""
        value = self._required(key)
        if not isinstance(value, str) or not value.strip() or len(value) > max_length or not value.isprintable():
            refuse(self.at(key), f"must be a name of 1 to {max_length} characters", value)
        return value

    def rows(self, key: str, max_length: int) -> list[object]:
        """A list of at most `max_length` items; empty if absent."""
        value = self.raw(key)
        if value is None:
            return []
        rows = cast(list[object], value) if isinstance(value, list) else None
        if rows is None or len(rows) > max_length:
            refuse(self.at(key), f"must be a list of at most {max_length} items", cast(object, value))
        return rows

    def entries(self, key: str, max_length: int, holds: str) -> dict[str, object]:
        """An object of 1 to `max_length` entries; `holds` says of what."""
        value = self._required(key)
        entries = cast(dict[str, object], value) if isinstance(value, dict) else None
        if not entries or len(entries) > max_length:
            refuse(self.at(key), f"must be an object of {holds}", cast(object, value))
        return entries

    def _required(self, key: str) -> object:
        if not self.has(key):
            raise BadRequest(f"{self.at(key)} is missing.")
        return self._fields[key]


def whole_of(value: object, path: str, unit: str, low: int, high: int) -> int:
    """`value` as a whole number; `8.0` is one, true is none. Raises `BadRequest`."""
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        refuse(path, f"must be a whole number of {unit} from {low} to {high}", value)
    return number


def number_of(value: object, path: str, unit: str, low: float, high: float) -> float:
    """`value` as a finite number. Raises `BadRequest`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # NaN is in no range
        refuse(path, f"must be a number of {unit} from {low:g} to {high:g}", value)
    return float(value)


def refuse(path: str, must: str, value: object) -> NoReturn:
    """Raises the `BadRequest` for a value that is none of what it `must` be."""
    raise BadRequest(f"{path} {must}, but is {_shown(value)}.")


def _shown(value: object, *, quoted: bool = True) -> str:
    """A value as it stands in the file, cut short."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(cast(list[object], value))} items"
    if isinstance(value, float) and not math.isfinite(value):
        return "no finite number"
    if isinstance(value, int) and abs(value) > 10**SHOWN_MAX:
        return "far beyond that"
    text = json.dumps(value) if quoted else "".join(letter for letter in str(value) if letter.isprintable())
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
