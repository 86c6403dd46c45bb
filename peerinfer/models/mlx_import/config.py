"""JSON settings that nobody vouches for, read key by key with their types checked. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, cast

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import INTEGER_MAX

TEXT_MAX_CHARS: Final = 1 << 20
"""One text; the longest are chat templates of about 100 kB (STRING_MAX_BYTES of the GGUF reader)."""
QUOTED_MAX_CHARS: Final = 48
"""A value from a file is cut to this many in a sentence."""


class Settings:
    """One JSON object of the file called `name`. A key whose value is null counts as missing."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name = name
        self._values = {key: value for key, value in values.items() if value is not None}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def raw(self, key: str) -> Any:
        """The value as it stands there; None without one."""
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number from 0 to 2³² - 1. Raises `CorruptModel` for anything else."""
        value = self._values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INTEGER_MAX:
            return value
        raise self._missing(key, "whole number")

    def real(self, key: str, default: float | None = None) -> float:
        """A number > 0. Raises `CorruptModel` for anything else."""
        value = self._values.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and abs(value) <= 1e30 and math.isfinite(value) and value > 0:
            return float(value)
        raise self._missing(key, "number above 0")

    def text(self, key: str, default: str | None = None) -> str:
        """A text. Raises `CorruptModel` for anything else."""
        value = self._values.get(key, default)
        if isinstance(value, str) and len(value) <= TEXT_MAX_CHARS:
            return value
        raise self._missing(key, "text")

    def flag(self, key: str, default: bool) -> bool:
        """A truth value. Raises `CorruptModel` for anything else."""
        value = self._values.get(key, default)
        if isinstance(value, bool):
            return value
        raise self._missing(key, "truth value")

    def section(self, key: str) -> Settings | None:
        """The object under `key`; None without one. Raises `CorruptModel` for anything else."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, dict):
            return Settings(self.name, cast("dict[str, Any]", value))
        raise self._missing(key, "object")

    def items(self, key: str) -> list[Any]:
        """The list under `key`; empty without one. Raises `CorruptModel` for anything else."""
        value = self._values.get(key, [])
        if isinstance(value, list):
            return cast("list[Any]", value)
        raise self._missing(key, "list")

    def only(self, key: str, *allowed: object) -> None:
        """Raises `UnsupportedModel` unless the value, if there is one, is one of these."""
        value = self._values.get(key)
        if value is not None and value not in allowed:
            raise unsupported(f"{key!r} is {quoted(value)} in its {self.name}")

    def _missing(self, key: str, kind: str) -> CorruptModel:
        return CorruptModel(f"{self.name} is damaged: it has no {kind} {key!r}. Fetch the model again.")


def parse_settings(name: str, raw: bytes) -> Settings:
    """The JSON object in `raw`, from the file called `name`. Raises `CorruptModel`."""
    try:
        value: object = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise CorruptModel(f"{name} is damaged: it is not JSON. Fetch the model again.") from None
    if not isinstance(value, dict):
        raise CorruptModel(f"{name} is damaged: it is not a JSON object. Fetch the model again.")
    return Settings(name, cast("dict[str, Any]", value))


def quoted(value: object) -> str:
    """A value from a file, as it may stand in a sentence."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    shown = "".join(character for character in text if character.isprintable())
    return repr(shown if len(shown) <= QUOTED_MAX_CHARS else shown[:QUOTED_MAX_CHARS] + "…")


def unsupported(why: str) -> UnsupportedModel:
    """The error for a sound model that cannot be converted."""
    return UnsupportedModel(f"This model cannot be imported: {why}. Pull a GGUF version of it instead.")
