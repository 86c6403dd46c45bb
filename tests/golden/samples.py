"""A sample of every registered message class, built from its annotations: all fields set, none at its default."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import pkgutil
import types
import typing
from typing import Any, Final

import peerinfer
from peerinfer.net.messages import registered

ID: Final = "0123456789abcdef" * 2
FIELDS: Final[dict[str, Any]] = {"node": ID, "mesh": ID, "port": 8643, "state": "ready", "digest": bytes(range(32))}
"""Values that a class checks."""
ROOMS: Final = ("net", "identity", "gossip", "election", "control", "pipeline")


def messages() -> dict[int, type[Any]]:
    """All message classes by tag, wherever they are defined."""
    for room in ROOMS:
        for found in pkgutil.iter_modules([f"{peerinfer.__path__[0]}/{room}"]):
            importlib.import_module(f"peerinfer.{room}.{found.name}")
    return {tag: cls for tag, cls in sorted(registered().items()) if cls.__module__.startswith("peerinfer.")}


def sample(cls: type[Any]) -> Any:
    """One of a frozen dataclass."""
    hints = typing.get_type_hints(cls)
    return cls(**{one.name: _value(hints[one.name], one.name) for one in dataclasses.fields(cls)})


def _value(hint: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _value(next(arm for arm in args if arm is not type(None)), name)
    if origin is tuple:
        return (_value(args[0], name),) if args[-1] is Ellipsis else tuple(_value(arm, name) for arm in args)
    if dataclasses.is_dataclass(hint):
        return sample(typing.cast("type[Any]", hint))
    if issubclass(hint, enum.StrEnum):
        return next(iter(hint))
    return _plain(hint, name)


def _plain(kind: type[Any], name: str) -> Any:
    if name in FIELDS and type(FIELDS[name]) is kind:
        return FIELDS[name]
    if kind is int:
        return 2 if name == "last_layer" else 1
    return {str: name, bytes: b"\x01\x02", bool: True, float: 0.5}[kind]
