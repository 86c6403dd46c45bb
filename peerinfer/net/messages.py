"""Control messages on the wire: frozen dataclasses to and from a strict, bounded msgpack array.

A message class registers with `@message(Tag.X)`. On the wire it is `[tag, field, field, …]`, fields in
order of definition. Decoding checks number and type of the fields against the annotations (`int`, `float`,
`bool`, `str`, `bytes`, `X | None`, `tuple[T, ...]`, `tuple[A, B]`, nested frozen dataclasses, `Mapping` is
not allowed) and raises `BadFrame` for whatever does not match. Fields may only be appended to the end of a
class, with a default, so that an older peer's shorter array still decodes.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

from peerinfer.errors import BadFrame
from peerinfer.packing import pack, unpack

MESSAGE_MAX_BYTES = 4 * 1024 * 1024
"""One encoded message. A prompt of a million token ids still fits; nothing else comes near."""
TEXT_MAX = 65_536
"""Characters in one text field: a name, a sentence, a reason."""
INT_MAX = 2**63 - 1


class Tag(enum.IntEnum):
    """Wire tags. Only append to this list; a number is never used twice."""

    # links (net)
    HELLO = 1
    HELLO_ACK = 2
    PING = 3
    PONG = 4
    GOODBYE = 5
    # identity and gossip
    ROSTER = 10
    SNAPSHOT = 11
    PEER_ADDRESSES = 12
    # control
    LEADER_HEARTBEAT = 20
    LOAD_REQUEST = 21
    UNLOAD_REQUEST = 22
    REQUEST_REPLY = 23
    LOAD_STAGE = 24
    DROP_STAGE = 25
    STAGE_REPORT = 26
    INSTANCES = 27
    STALE_BALLOT = 28
    # pipeline
    SUBMIT = 40
    CREDIT = 41
    STOP = 42
    TOKENS = 43
    ENDED = 44
    STEP_DONE = 45
    STEP_TROUBLE = 46
    # pairing listener
    PAIRING_START = 60
    PAIRING_ANSWER = 61
    PAIRING_CONFIRM = 62
    PAIRING_ADMIT = 63
    PAIRING_REFUSED = 64


M = TypeVar("M")
_tags: dict[type[Any], Tag] = {}
_classes: dict[int, type[Any]] = {}
_hints: dict[type[Any], tuple[tuple[str, Any, bool], ...]] = {}


def message(tag: Tag) -> Callable[[type[M]], type[M]]:
    """Class decorator: gives a frozen dataclass its tag on the wire."""

    def register(cls: type[M]) -> type[M]:
        if int(tag) in _classes:
            raise TypeError(f"tag {tag!r} is taken by {_classes[int(tag)].__name__}")
        _tags[cls] = tag
        _classes[int(tag)] = cls
        return cls

    return register


def registered() -> dict[int, type[Any]]:
    """All message classes known so far, by tag."""
    return dict(_classes)


def encode(value: object) -> bytes:
    """The wire bytes of a message. Raises `BadFrame` if it would be over `MESSAGE_MAX_BYTES`."""
    tag = _tags[type(value)]
    data = pack([int(tag), *_fields_out(value)])
    if len(data) > MESSAGE_MAX_BYTES:
        raise BadFrame(f"A {type(value).__name__} message of {len(data)} bytes is over the limit.")
    return data


def decode(data: bytes | memoryview) -> object:
    """The message in `data`. Raises `BadFrame` for anything that is not exactly one valid message."""
    try:
        raw = unpack(data, MESSAGE_MAX_BYTES)
    except ValueError as error:
        raise BadFrame(f"Not a valid message: {error}.") from None
    if not isinstance(raw, list) or not raw:
        raise BadFrame("A message must be a non-empty array.")
    items = cast(list[object], raw)
    tag = items[0]
    if type(tag) is not int or tag not in _classes:
        raise BadFrame("A message with an unknown tag.")
    return _build(_classes[tag], items[1:])


def pack_fields(value: object) -> list[object]:
    """The fields of a frozen dataclass as plain values, for msgpack."""
    return _fields_out(value)


def unpack_fields(cls: type[M], fields: object) -> M:
    """The `cls` whose `pack_fields` gave `fields`, checked against its annotations. Raises `BadFrame`."""
    if not isinstance(fields, list):
        raise BadFrame(f"{cls.__name__} must be an array.")
    return cast(M, _build(cls, cast(list[object], fields)))


def _fields_out(value: object) -> list[object]:
    return [_out(getattr(value, name)) for name, _, _ in _schema(type(value))]


def _out(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_out(value)
    if isinstance(value, tuple):
        return [_out(item) for item in cast(tuple[object, ...], value)]
    return value


def _schema(cls: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    """(name, annotation, has a default) for each field of `cls`, computed once."""
    known = _hints.get(cls)
    if known is None:
        hints = typing.get_type_hints(cls)
        known = tuple(
            (
                field.name,
                hints[field.name],
                field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING,
            )
            for field in dataclasses.fields(cls)
        )
        _hints[cls] = known
    return known


def _build(cls: type[Any], items: list[object]) -> object:
    schema = _schema(cls)
    if len(items) > len(schema):
        items = items[: len(schema)]  # a newer peer appended fields that this version does not know
    if any(not optional for _, _, optional in schema[len(items) :]):
        raise BadFrame(f"A {cls.__name__} message with too few fields.")
    values = {name: _in(hint, item, cls.__name__, name) for (name, hint, _), item in zip(schema, items, strict=False)}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise BadFrame(f"A {cls.__name__} message with bad values: {error}") from None


def _in(hint: Any, item: object, owner: str, name: str) -> object:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if item is None:
            return None
        inner = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _in(inner[0], item, owner, name)
    if origin is tuple:
        return _tuple_in(typing.get_args(hint), item, owner, name)
    if dataclasses.is_dataclass(hint):
        if not isinstance(item, list):
            raise BadFrame(f"{owner}.{name} must be an array.")
        return _build(cast(type[Any], hint), cast(list[object], item))
    return _scalar_in(hint, item, owner, name)


def _tuple_in(args: tuple[Any, ...], item: object, owner: str, name: str) -> object:
    if not isinstance(item, list):
        raise BadFrame(f"{owner}.{name} must be an array.")
    values = cast(list[object], item)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_in(args[0], value, owner, name) for value in values)
    if len(values) != len(args):
        raise BadFrame(f"{owner}.{name} must have {len(args)} items.")
    return tuple(_in(arm, value, owner, name) for arm, value in zip(args, values, strict=True))


def _scalar_in(hint: Any, item: object, owner: str, name: str) -> object:
    if hint is float and type(item) in (int, float):
        return float(cast(float, item))
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum) and isinstance(item, str):
        try:
            return hint(item)
        except ValueError:
            raise BadFrame(f"{owner}.{name} has an unknown value.") from None
    if type(item) is not hint:
        raise BadFrame(f"{owner}.{name} has the wrong type.")
    if hint is int and not -INT_MAX <= cast(int, item) <= INT_MAX:
        raise BadFrame(f"{owner}.{name} is out of range.")
    if hint is str and len(cast(str, item)) > TEXT_MAX:
        raise BadFrame(f"{owner}.{name} is too long.")
    return item
