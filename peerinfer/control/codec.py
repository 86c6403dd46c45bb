"""States and events as JSON and back, for whoever folds them outside the daemon. Pure.

A value is an object with the names of its fields; an event has its `type` besides. Reading is strict: what a field's
type and the limits do not allow is refused. What a newer daemon adds is not known here and passed over: a field, or
a whole type of event.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final, NoReturn, cast

from peerinfer.control.events import (
    ClusterEvent,
    InstancesChanged,
    LeaderChanged,
    LinkLost,
    LinkMeasured,
    MemberAppeared,
    MemberChanged,
    MemberLeft,
    NeighboursChanged,
    SnapshotReceived,
    SpeedMeasured,
)
from peerinfer.control.state import ClusterState
from peerinfer.errors import BadFrame

JSON_MAX_BYTES: Final = 4 * 1024 * 1024
"""One state or event: a mesh of 32 nodes with 50 model files each takes a tenth of it."""
TEXT_MAX: Final = 65_536
"""Characters of one text: as many as a message between nodes may hold."""
ITEMS_MAX: Final = 4096
"""Items of one list: the links of a state, of which there may be the most."""
NUMBER_MAX: Final = 2**63 - 1
"""Everything here is counted in signed 64-bit numbers; none is negative."""
MEASURE_MAX: Final = sys.float_info.max
"""The largest finite number."""
SIGNED: Final = frozenset({"Device.temperature_c"})
"""Fields that may lie below zero: a machine in a cold room."""

EVENTS: Final[Mapping[str, type[ClusterEvent]]] = {
    "member_appeared": MemberAppeared,
    "member_changed": MemberChanged,
    "member_left": MemberLeft,
    "snapshot_received": SnapshotReceived,
    "leader_changed": LeaderChanged,
    "instances_changed": InstancesChanged,
    "link_measured": LinkMeasured,
    "link_lost": LinkLost,
    "neighbours_changed": NeighboursChanged,
    "speed_measured": SpeedMeasured,
}
"""The events by the names that programs know them by: they stay, more may come."""
_TYPES: Final = {kind: name for name, kind in EVENTS.items()}

Reader = Callable[[object], Any]


def encode_state(state: ClusterState) -> str:
    """JSON on one line, ASCII only."""
    return _dump(state)


def encode_event(event: ClusterEvent) -> str:
    """JSON on one line, ASCII only."""
    return _dump({"type": _TYPES[type(event)], **_fields_out(event)})


def decode_state(data: bytes) -> ClusterState:
    """The state in `data`. Raises `BadFrame`."""
    return _build(ClusterState, _object(data))


def decode_event(data: bytes) -> ClusterEvent | None:
    """The event in `data`; None for one of a type that is not known. Raises `BadFrame`."""
    fields = _object(data)
    name = fields.get("type")
    if not isinstance(name, str):
        raise BadFrame("An event of the daemon has no type.")
    kind = EVENTS.get(name)
    return None if kind is None else _build(kind, fields)


def _dump(value: object) -> str:
    return json.dumps(value, default=_fields_out, allow_nan=False, separators=(",", ":"))


def _fields_out(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _object(data: bytes) -> dict[str, object]:
    if len(data) > JSON_MAX_BYTES:
        raise BadFrame(f"{len(data)} bytes of JSON are over the limit of {JSON_MAX_BYTES}.")
    try:
        value: object = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"What the daemon sent is not JSON ({type(error).__name__}).") from None
    return _mapping(value, "What the daemon sent")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadFrame(f"{what} is not an object.")
    return cast(dict[str, object], value)


def _build(kind: type[Any], fields: dict[str, object]) -> Any:
    values: dict[str, Any] = {}
    for name, read, is_needed in _schema(kind):
        if name in fields:
            values[name] = read(fields[name])
        elif is_needed:
            raise BadFrame(f"{kind.__name__}.{name} is missing.")
    try:
        return kind(**values)
    except ValueError as error:
        raise BadFrame(f"What the daemon sent holds {error}.") from None


@cache
def _schema(kind: type[Any]) -> tuple[tuple[str, Reader, bool], ...]:
    """(name, reader of its value, whether it must be there) of each field."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (field.name, _reader(hints[field.name], f"{kind.__name__}.{field.name}"), field.default is dataclasses.MISSING)
        for field in dataclasses.fields(kind)
    )


def _reader(hint: Any, field: str) -> Reader:
    """What checks a value of JSON against the annotation `hint`, which is of one of the kinds that a state has."""
    if isinstance(hint, types.UnionType):
        inner = _reader(next(arm for arm in typing.get_args(hint) if arm is not types.NoneType), field)
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(hint) is tuple:
        return partial(_list, _reader(typing.get_args(hint)[0], field), field)
    if dataclasses.is_dataclass(hint):
        return lambda value: _build(cast(type[Any], hint), _mapping(value, field))
    if issubclass(hint, enum.StrEnum):
        return partial(_word, {word.value: word for word in hint}, field)
    return partial(_number if field in SIGNED else _SCALARS[hint], field)


def _list(read: Reader, field: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(cast(list[object], value)) > ITEMS_MAX:
        raise BadFrame(f"{field} is not a list of at most {ITEMS_MAX} items.")
    return tuple([read(item) for item in cast(list[object], value)])


def _word(words: Mapping[str, enum.StrEnum], field: str, value: object) -> enum.StrEnum:
    if not isinstance(value, str) or value not in words:
        raise BadFrame(f"{field} is not one of {', '.join(words)}.")
    return words[value]


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise BadFrame(f"{field} is not a text of at most {TEXT_MAX} characters.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadFrame(f"{field} holds half of a surrogate pair, which is not text.") from None
    return value


def _whole(field: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise BadFrame(f"{field} is not a whole number from 0 to {NUMBER_MAX}.")
    return value


def _number(field: str, value: object) -> float:
    if type(value) not in {int, float} or not -MEASURE_MAX <= cast(float, value) <= MEASURE_MAX:
        raise BadFrame(f"{field} is not a finite number.")
    return float(cast(float, value))


def _measure(field: str, value: object) -> float:
    number = _number(field, value)
    if number < 0:
        raise BadFrame(f"{field} is not a finite number from 0.")
    return number


def _flag(field: str, value: object) -> bool:
    if type(value) is not bool:
        raise BadFrame(f"{field} is not true or false.")
    return value


_SCALARS: Final[Mapping[type[Any], Callable[[str, object], Any]]] = {
    str: _text,
    int: _whole,
    float: _measure,
    bool: _flag,
}
