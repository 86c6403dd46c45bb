"""The catalogue: short names of good open models. One is bundled; a `catalogue.json` in the home adds and overrides.

The figures are about right, for a person to choose by; what a pull brings is what the hub's digests say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, cast

from peerinfer.errors import BadRequest, ConfigInvalid, UnknownModel
from peerinfer.models.pull.reference import HubReference, ShortName, WebReference, parse_reference
from peerinfer.names import clean_name

FILE_NAME: Final = "catalogue.json"
FILE_MAX_BYTES: Final = 1 << 20
"""Thousands of entries; a larger file is not a catalogue."""
ENTRIES_MAX: Final = 2000
TEXT_MAX_CHARS: Final = 200
BYTES_MAX: Final = 1 << 42
"""4 TiB: no model is so large."""
PROBLEMS_MAX: Final = 8
"""Sentences about one file: who sees eight knows enough."""

_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
_TEXTS = ("name", "ref", "licence", "architecture", "about")
_SIZES = ("download_bytes", "memory_bytes")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model of the catalogue."""

    name: str
    """`family` or `family:size`, in lower case."""
    reference: HubReference | WebReference
    licence: str
    """SPDX name where there is one, else the name that people know it by."""
    architecture: str
    """As the model's file names it, such as `llama`."""
    download_bytes: int
    """About: what is downloaded."""
    memory_bytes: int
    """About: weights and the context's cache for 4,096 tokens, over all nodes."""
    about: str = ""
    default: bool = False
    """The one that is meant by the family's name alone."""

    @property
    def family(self) -> str:
        """The name before the colon."""
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What short names mean."""

    entries: tuple[CatalogueEntry, ...]
    """In the order of the file: by family, then by size."""
    problems: tuple[str, ...] = ()
    """What of the home's file is not used, and why: a sentence each."""

    def described(self) -> dict[str, object]:
        """The object of `models --catalogue --json`: the entries in their order, and what is wrong with the file."""
        rows = [
            {
                "name": entry.name,
                "reference": str(entry.reference),
                "licence": entry.licence,
                "architecture": entry.architecture,
                "download_bytes": entry.download_bytes,
                "memory_bytes": entry.memory_bytes,
                "about": entry.about,
            }
            for entry in self.entries
        ]
        return {"models": rows, "problems": list(self.problems)}

    def find(self, name: ShortName) -> CatalogueEntry:
        """The entry that is meant. Raises `UnknownModel`, or `BadRequest` for a family without default."""
        by_name = {entry.name: entry for entry in self.entries}
        if name.name in by_name:
            return by_name[name.name]
        family = [entry for entry in self.entries if entry.family == name.name.partition(":")[0]]
        chosen = [entry for entry in family if entry.default] or (family if len(family) == 1 else [])
        if ":" not in name.name and len(chosen) == 1:
            return chosen[0]
        there = ", ".join(entry.name for entry in family)
        if family and ":" not in name.name:
            raise BadRequest(f"Say which {name.name}: {there}.")
        known = there or ", ".join(sorted({entry.family for entry in self.entries}))
        raise UnknownModel(f"The catalogue has no {name.name!r}. It has: {known}. Any model of the hub: hf:OWNER/REPO.")


def load_catalogue(home: Path) -> Catalogue:
    """The bundled catalogue with what the home's file adds and overrides.

    A bad file, or a bad entry of it, is told in `problems`; the rest is used all the same.
    """
    bundled = bundled_catalogue()
    path = home / FILE_NAME
    try:
        if not path.exists():
            return bundled
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
        own, problems = parse_catalogue(data)
    except OSError as error:
        own, problems = (), (f"it cannot be read ({error.strerror})",)
    except ConfigInvalid as error:
        own, problems = (), (str(error),)
    told = tuple(f"{path}: {problem}." for problem in problems[:PROBLEMS_MAX])
    return Catalogue(_merged(bundled.entries, own), told)


def bundled_catalogue() -> Catalogue:
    """The catalogue that comes with the program. Raises `ConfigInvalid` if it is damaged."""
    data = resources.files("peerinfer.models.pull").joinpath(FILE_NAME).read_bytes()
    entries, problems = parse_catalogue(data)
    if problems:
        raise ConfigInvalid(f"The bundled catalogue is damaged: {problems[0]}. Install the program again.")
    return Catalogue(entries)


def parse_catalogue(data: bytes) -> tuple[tuple[CatalogueEntry, ...], tuple[str, ...]]:
    """A catalogue file's good entries, and what is wrong with the others. Raises `ConfigInvalid` if it is none."""
    if len(data) > FILE_MAX_BYTES:
        raise ConfigInvalid(f"it is larger than {FILE_MAX_BYTES >> 20} MiB")
    try:
        body = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ConfigInvalid("it is not JSON") from None
    listed = cast("dict[str, object]", body).get("models") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise ConfigInvalid('it has no list "models"')
    raw = cast("list[object]", listed)
    if len(raw) > ENTRIES_MAX:
        raise ConfigInvalid(f"it has more than {ENTRIES_MAX} entries")
    entries: dict[str, CatalogueEntry] = {}
    problems: list[str] = []
    for number, item in enumerate(raw, 1):
        try:
            entry = _entry(item)
            if entry.name in entries:
                raise ConfigInvalid(f"{entry.name} is there twice")
            entries[entry.name] = entry
        except (ConfigInvalid, BadRequest) as error:
            problems.append(f"entry {number} is left out: {str(error).rstrip('.')}")
    return tuple(entries.values()), tuple(problems)


def _entry(item: object) -> CatalogueEntry:
    if not isinstance(item, dict):
        raise ConfigInvalid("it is not an object")
    raw = cast("dict[str, object]", item)
    if unknown := sorted(set(raw) - {*_TEXTS, *_SIZES, "default"}):
        raise ConfigInvalid(f"it has the unknown field {clean_name(unknown[0])!r}")
    name, ref, licence, architecture, about = (_text(raw, field) for field in _TEXTS)
    short, reference = parse_reference(name), parse_reference(ref)
    if not isinstance(short, ShortName) or str(short) != name:
        raise ConfigInvalid(f"{clean_name(name)!r} is no short name, such as smollm2:135m")
    if not isinstance(reference, (HubReference, WebReference)):
        raise ConfigInvalid(f"the ref of {name} is neither hf:OWNER/REPO… nor https://…#sha256=…")
    if not _ARCHITECTURE.fullmatch(architecture):
        raise ConfigInvalid(f"the architecture of {name} is none, such as llama")
    download, memory = (_size(raw, field) for field in _SIZES)
    default = raw.get("default", False)
    if not isinstance(default, bool):
        raise ConfigInvalid(f"the default of {name} is neither true nor false")
    return CatalogueEntry(name, reference, licence, architecture, download, memory, about, default)


def _text(raw: Mapping[str, object], field: str) -> str:
    value = raw.get(field, "" if field == "about" else None)
    if not isinstance(value, str) or len(value) > TEXT_MAX_CHARS * (10 if field == "ref" else 1):
        raise ConfigInvalid(f"its {field} is no text of at most {TEXT_MAX_CHARS} characters")
    if not value.isprintable() or (field != "about" and not value.strip()):
        raise ConfigInvalid(f"its {field} is empty or holds control characters")
    return value


def _size(raw: Mapping[str, object], field: str) -> int:
    value = raw.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= BYTES_MAX:
        raise ConfigInvalid(f"its {field} is no number of bytes")
    return value


def _merged(bundled: Sequence[CatalogueEntry], own: Sequence[CatalogueEntry]) -> tuple[CatalogueEntry, ...]:
    """The bundled entries with those of the same name replaced, then the new ones; a new default is the only one."""
    replaced = {entry.name: entry for entry in own}
    taken = {entry.family for entry in own if entry.default}
    kept = [_without_default(entry) if entry.family in taken else entry for entry in bundled]
    first = tuple(replaced.pop(entry.name, entry) for entry in kept)
    return (*first, *replaced.values())


def _without_default(entry: CatalogueEntry) -> CatalogueEntry:
    return CatalogueEntry(
        entry.name,
        entry.reference,
        entry.licence,
        entry.architecture,
        entry.download_bytes,
        entry.memory_bytes,
        entry.about,
    )
