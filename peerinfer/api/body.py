"""A request's JSON body: read within limits of size, time and depth, and its fields fetched with type and range."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn, cast

from aiohttp import web

from peerinfer.api.replies import JsonObject
from peerinfer.errors import BadParameter, BadRequest

BODY_MAX_BYTES = 8 * 1024 * 1024
"""Largest body: some two million tokens of text, more than any context here."""
BODY_READ_S = 30.0
"""A body that takes longer to arrive is given up: it holds one of the places of requests."""
DEPTH_MAX = 32
"""Nesting of arrays and objects; a chat request needs 5."""
ITEMS_MAX = 100_000
"""Values in a body; what comes from a real client stays far below."""


async def read_json(request: web.Request) -> JsonObject:
    """The body as an object. Raises `BadRequest`, or aiohttp's 413 if it is over the limit of the application."""
    try:
        async with asyncio.timeout(BODY_READ_S):
            raw = await request.read()
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {BODY_READ_S:.0f} seconds.") from None
    return parse_object(raw)


def parse_object(raw: bytes) -> JsonObject:
    """Bytes to a JSON object of bounded depth and size, all of its text valid Unicode. Raises `BadRequest`."""
    try:
        value: object = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    _check(cast(object, value))
    return cast(JsonObject, value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check(root: object) -> None:
    """Walks level by level, so that depth costs no stack. Raises `BadRequest`."""
    level: list[object] = [root]
    items = 0
    for _ in range(DEPTH_MAX):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(cast(dict[str, object], value))
                below.extend(cast(dict[str, object], value).values())
            elif isinstance(value, list):
                below.extend(cast(list[object], value))
            elif isinstance(value, str):
                _check_text(value)
        items += len(below)
        if items > ITEMS_MAX:
            raise BadRequest(f"The JSON has more than {ITEMS_MAX} values.")
        if not below:
            return
        level = below
    raise BadRequest(f"The JSON is nested more than {DEPTH_MAX} deep.")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest("A string of the JSON holds half of a surrogate pair, which is not text.") from None


class Fields:
    """Fetches fields of an object by name, type and range; null counts as absent. Each raises `BadParameter`."""

    def __init__(self, body: JsonObject) -> None:
        self._body = body

    def raw(self, name: str) -> Any:
        """The value as it is; None if absent."""
        return self._body.get(name)

    def text(self, name: str, default: str = "", max_length: int = BODY_MAX_BYTES) -> str:
        """A string of at most `max_length` characters."""
        value = self._body.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise BadParameter(name, f"`{name}` must be a string.")
        if len(value) > max_length:
            raise BadParameter(name, f"`{name}` must have at most {max_length} characters.")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadParameter(name, f"`{name}` must be true or false.")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A finite number from `low` to `high`."""
        value = self._body.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadParameter(name, f"`{name}` must be a number.")
        if not low <= value <= high or not math.isfinite(value):
            raise BadParameter(name, f"`{name}` must be from {low:g} to {high:g}.")
        return float(value)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`; `8.0` is one, as in JSON Schema."""
        value = self._body.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadParameter(name, f"`{name}` must be a whole number.")
        if not low <= value <= high:
            raise BadParameter(name, f"`{name}` must be from {low} to {high}.")
        return value
