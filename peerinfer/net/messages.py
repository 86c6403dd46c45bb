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
    AUTHORITY = 6
    AUTHORITY_HELD = 7
    ROSTER = 10
    SNAPSHOT = 11
    PEER_ADDRESSES = 12
    GOSSIP_DIGEST = 13
    GOSSIP_MARKS = 14
    ASK_HEARD = 15
    HEARD = 16
    FAREWELL = 17
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
    PRE_VOTE = 29
    VOTE_REQUEST = 30
    GRANT = 31
    WOULD_GRANT = 32
    BUSY = 33
    RELEASE = 34
    STAGES_HELD = 35
    INTENTS = 36
    INTENTS_DIGEST = 37
    # pipeline
    SUBMIT = 40
    CREDIT = 41
    STOP = 42
    TOKENS = 43
    ENDED = 44
    STEP_DONE = 45
    STEP_TROUBLE = 46
    # probes of links
    PROBE_ASK = 50
    PROBE_READY = 51
    PROBE_CHUNK = 52
    PROBE_RESULT = 53
    # pairing listener
    PAIRING_START = 60
    PAIRING_ANSWER = 61
    PAIRING_CONFIRM = 62
    PAIRING_ADMIT = 63
    PAIRING_REFUSED = 64


M = TypeVar("M")
Reader = Callable[[object], object]
"""Checks one raw value of a field and gives the field's own; raises `BadFrame`."""
_tags: dict[type[Any], Tag] = {}
_classes: dict[int, type[Any]] = {}
_schemas: dict[type[Any], tuple[tuple[str, Reader, bool], ...]] = {}
_PLAIN = frozenset({int, str, bytes, bool, float, type(None)})


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
    if type(value) in _PLAIN:
        return value
    if isinstance(value, tuple):
        return [_out(item) for item in cast(tuple[object, ...], value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_out(value)
    return value


def _schema(cls: type[Any]) -> tuple[tuple[str, Reader, bool], ...]:
    """(name, reader of its value, has a default) for each field of `cls`, computed once: messages go by per token."""
    known = _schemas.get(cls)
    if known is None:
        hints = typing.get_type_hints(cls)
        known = tuple(
            (
                field.name,
                _reader(hints[field.name], f"{cls.__name__}.{field.name}"),
                field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING,
            )
            for field in dataclasses.fields(cls)
        )
        _schemas[cls] = known
    return known


def _build(cls: type[Any], items: list[object]) -> object:
    schema = _schema(cls)
    if len(items) > len(schema):
        items = items[: len(schema)]  # a newer peer appended fields that this version does not know
    if any(not optional for _, _, optional in schema[len(items) :]):
        raise BadFrame(f"A {cls.__name__} message with too few fields.")
    values = {name: read(item) for (name, read, _), item in zip(schema, items, strict=False)}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise BadFrame(f"A {cls.__name__} message with bad values: {error}") from None


def _reader(hint: Any, field: str) -> Reader:
    """What checks a raw value against the annotation `hint` and gives the field's value."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = _reader(next(arm for arm in typing.get_args(hint) if arm is not type(None)), field)
        return lambda item: None if item is None else inner(item)
    if origin is tuple:
        return _tuple_reader(typing.get_args(hint), field)
    if dataclasses.is_dataclass(hint):
        cls = cast(type[Any], hint)
        return lambda item: _build(cls, _array(item, field))
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return _enum_reader(hint, field)
    return _scalar_reader(cast("type[Any]", hint), field)


def _array(item: object, field: str) -> list[object]:
    if not isinstance(item, list):
        raise BadFrame(f"{field} must be an array.")
    return cast(list[object], item)


def _tuple_reader(args: tuple[Any, ...], field: str) -> Reader:
    if len(args) == 2 and args[1] is Ellipsis:
        each = _reader(args[0], field)
        return lambda item: tuple([each(value) for value in _array(item, field)])
    readers = tuple(_reader(arm, field) for arm in args)

    def read(item: object) -> object:
        values = _array(item, field)
        if len(values) != len(readers):
            raise BadFrame(f"{field} must have {len(readers)} items.")
        return tuple(each(value) for each, value in zip(readers, values, strict=True))

    return read


def _enum_reader(kind: type[enum.StrEnum], field: str) -> Reader:
    def read(item: object) -> object:
        try:
            return kind(cast(str, item))
        except ValueError:
            raise BadFrame(f"{field} has an unknown value.") from None

    return read


def _scalar_reader(kind: type[Any], field: str) -> Reader:
    def read(item: object) -> object:
        if kind is float and type(item) is int:
            return float(item)
        if type(item) is not kind:
            raise BadFrame(f"{field} has the wrong type.")
        if kind is int and not -INT_MAX <= cast(int, item) <= INT_MAX:
            raise BadFrame(f"{field} is out of range.")
        if kind is str and len(cast(str, item)) > TEXT_MAX:
            raise BadFrame(f"{field} is too long.")
        return item

    return read
