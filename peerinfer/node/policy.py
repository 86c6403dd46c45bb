"""What the owner of this machine allows: the settings of `peerinfer config`, kept in the home as `config.json`."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from peerinfer.engine.kinds import ENGINES
from peerinfer.errors import BadParameter, ConfigInvalid, DiskFull, HomeError
from peerinfer.gossip.snapshot import FREE_POLICY, OwnerPolicy
from peerinfer.identity.files import write_private

POLICY_FILE: Final = "config.json"
VERSION: Final = 1
"""Of the file. A later one is refused, since what it restricts must not be overlooked."""
FILE_MAX_BYTES: Final = 1 << 16
"""Five settings; what is larger is not ours."""
MEMORY_LIMIT_MIN_BYTES: Final = 1_000_000
"""With less not the smallest layer fits: `exclude` says that better."""
MEMORY_LIMIT_MAX_BYTES: Final = 10**15
"""More than any machine has."""
VALUE_MAX: Final = 256
"""Characters of a setting."""
KEYS: Final = ("keep-light", "never-on-battery", "memory-limit", "exclude", "engines")
MEANINGS: Final = {
    "keep-light": "use at most a quarter of this machine's memory, and none that its user needs",
    "never-on-battery": "hold no layers while it runs on its battery",
    "memory-limit": "for all layers on it together, such as 8GB; none sets no limit",
    "exclude": "hold no layers at all; it still asks, and answers its own people",
    "engines": f"that may run layers here, of {', '.join(ENGINES)}, with commas between them; or all",
}
_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": 1 << 30}


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """All settings of one machine."""

    owner: OwnerPolicy = FREE_POLICY
    """What the mesh is told."""
    engines: tuple[str, ...] = ()
    """That may run layers; empty for all. The mesh is told of no other."""

    def allowed(self, engines: Sequence[str]) -> tuple[str, ...]:
        """Those of this machine's engines that may run layers, in the owner's order if he named some."""
        return tuple(engine for engine in self.engines or engines if engine in engines)

    def shown(self) -> dict[str, Any]:
        """The settings by their keys: true or false, bytes or null, names or `all`."""
        return {
            "keep-light": self.owner.keep_light,
            "never-on-battery": self.owner.never_on_battery,
            "memory-limit": self.owner.memory_limit_bytes or None,
            "exclude": self.owner.exclude,
            "engines": list(self.engines) or "all",
        }

    def with_value(self, key: str, text: str) -> NodePolicy:
        """One setting as a person writes it. Raises `BadParameter`."""
        if key not in KEYS:
            raise BadParameter("key", f"There is no setting {key[:VALUE_MAX]}. Settings: {', '.join(KEYS)}.")
        word = text.strip()
        if key == "engines":
            return replace(self, engines=_engines(word))
        if key == "memory-limit":
            return replace(self, owner=replace(self.owner, memory_limit_bytes=_size(word)))
        flag = _flag(key, word)
        return replace(self, owner=replace(self.owner, **{key.replace("-", "_"): flag}))


class PolicyDesk:
    """The settings of one home. Everybody asks `current`; who must act upon a change is told by `changed`."""

    def __init__(self, home: Path) -> None:
        """Raises `ConfigInvalid` for a file that cannot be understood, which stays as it is."""
        self._path = home / POLICY_FILE
        self._others: dict[str, Any] = {}
        """Keys in the file that are not ours; they stay there."""
        self.current = self._read()
        self.changed: Callable[[], None] = lambda: None
        """Tells the mesh of a change. Called from the event loop."""

    def owner(self) -> OwnerPolicy:
        """What the mesh is told now."""
        return self.current.owner

    def allowed(self, engines: Sequence[str]) -> tuple[str, ...]:
        """Those of this machine's engines that may run layers now."""
        return self.current.allowed(engines)

    def set(self, key: str, text: str) -> NodePolicy:
        """Changes a setting, on the disk first. Raises `BadParameter`, `DiskFull` or `HomeError`."""
        new = self.current.with_value(key, text)
        body = {**self._others, "version": VERSION, **new.shown()}
        try:
            write_private(self._path, json.dumps(body, indent=2).encode() + b"\n")
        except OSError as error:
            raise _unwritten(self._path, error) from None
        self.current = new
        return new

    def _read(self) -> NodePolicy:
        try:
            with self._path.open("rb") as file:
                raw = file.read(FILE_MAX_BYTES + 1)
        except FileNotFoundError:
            return NodePolicy()
        except OSError as error:
            raise HomeError(f"{self._path} cannot be read: {error.strerror or error}. Check its permissions.") from None
        try:
            return self._understood(raw)
        except (ValueError, RecursionError, BadParameter) as error:
            raise ConfigInvalid(
                f"{self._path} is damaged ({str(error).rstrip('.')}). It was left as it is: correct it, or move it "
                "away and set what you want again with `peerinfer config`."
            ) from None

    def _understood(self, raw: bytes) -> NodePolicy:
        if len(raw) > FILE_MAX_BYTES:
            raise ValueError("it is far too large")
        value: object = json.loads(raw.decode("utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        body = cast(dict[str, Any], value)
        version = body.get("version")
        if type(version) is not int or version < 1:
            raise ValueError("its version is missing")
        if version > VERSION:
            raise ValueError(f"its version is {version}, and this peerinfer knows {VERSION}: update peerinfer")
        self._others = {key: told for key, told in body.items() if key not in (*KEYS, "version")}
        policy = NodePolicy()
        for key in KEYS:
            if key in body:
                policy = policy.with_value(key, _as_text(key, body[key]))
        return policy


def shown_text(key: str, settings: Mapping[str, Any]) -> str:
    """A setting of `NodePolicy.shown` as a person writes it."""
    value = settings[key]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        unit = next(unit for unit in ("TB", "GB", "MB", "kB", "B") if value % _UNITS[unit.upper()] == 0)
        return f"{value // _UNITS[unit.upper()]}{unit}"
    return value if isinstance(value, str) else ",".join(value)


def _unwritten(path: Path, error: OSError) -> HomeError:
    if error.errno == errno.ENOSPC:
        return DiskFull(f"The disk has no room for {path.name}. Free some space, then set it again.")
    return HomeError(f"{path} cannot be written: {error.strerror or error}. Check its permissions, then set it again.")


def _as_text(key: str, value: object) -> str:
    """What stands in the file, as `with_value` takes it. Raises `ValueError`."""
    if value is None and key == "memory-limit":
        return "none"
    if isinstance(value, bool) and key not in ("memory-limit", "engines"):
        return "yes" if value else "no"
    if isinstance(value, int) and not isinstance(value, bool) and key == "memory-limit" and 0 <= value < 10**18:
        return f"{value}B"
    if isinstance(value, str) and key == "engines":
        return value
    if isinstance(value, list) and key == "engines":
        return ",".join(str(one) for one in cast(list[object], value)[: len(ENGINES)])
    raise ValueError(f"{key} has a value that it cannot have")


def _flag(key: str, word: str) -> bool:
    if word.lower() in _YES:
        return True
    if word.lower() in _NO:
        return False
    raise BadParameter("value", f"{key} is yes or no, not {word[:VALUE_MAX]!r}.")


def _size(word: str) -> int:
    if word.lower() in ("none", "no"):
        return 0
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*(B|KB|MB|GB|TB|MIB|GIB)", word.upper())
    if match is None:
        raise BadParameter(
            "value", f"memory-limit is a number and MB, GB or TB, such as 8GB, or none; not {word[:VALUE_MAX]!r}."
        )
    size = int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]
    if not MEMORY_LIMIT_MIN_BYTES <= size <= MEMORY_LIMIT_MAX_BYTES:
        raise BadParameter("value", "memory-limit is from 1MB to 1000TB; to give nothing, set exclude to yes.")
    return size


def _engines(word: str) -> tuple[str, ...]:
    if word.lower() == "all":
        return ()
    named = tuple(dict.fromkeys(part.strip().lower() for part in word.split(",") if part.strip()))
    unknown = [name for name in named if name not in ENGINES]
    if unknown or not named:
        raise BadParameter(
            "value", f"engines is all, or some of {', '.join(ENGINES)} with commas; not {word[:VALUE_MAX]!r}."
        )
    return named
