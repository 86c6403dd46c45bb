"""Which files of a repository are the model that is meant: quantisations, split files, what to leave aside; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.errors import BadRequest, UnknownModel
from peerinfer.models.pull.reference import HubReference, safe_file

PREFERRED: Final = (
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "UD-Q4_K_XL", "Q4_K_L", "IQ4_NL", "IQ4_XS", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0",
    "Q6_K", "Q8_0", "BF16", "F16", "F32",
)  # fmt: skip
"""Quantisations in the order in which they are taken if none is named: four bits first, as everybody runs them."""
PARTS_MAX: Final = 999
NAMES_SHOWN: Final = 24
"""Files or quantisations listed in a sentence."""

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])(?P<quant>(?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_[A-Z]+)*|BF16|FP?16|FP?32))(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_NOT_MODELS = re.compile(r"(?:^|[-_.])(?:mmproj|imatrix|mtp|dflash|eagle3|draft)(?:[-_.]|$)", re.IGNORECASE)
"""Parts of a name that tell a vision projector, an importance matrix or a draft model."""


@dataclass(frozen=True, slots=True)
class RepoFile:
    """One file of a repository."""

    path: str
    size_bytes: int = 0
    sha256: str = ""
    """64 hex digits; empty if the hub does not tell."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a repository: its only file, or all parts in order."""

    stem: str
    """The path without `.gguf` and without the number of a part."""
    quant: str
    """In upper case; empty if the name tells none."""
    files: tuple[RepoFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(file.size_bytes for file in self.files)


def choose(reference: HubReference, files: Sequence[RepoFile]) -> Variant:
    """The model that `reference` means, among the `files` of its repository.

    Raises `UnknownModel` if there is none, `BadRequest` if several may be meant; both sentences list what there is.
    """
    found = variants(files)
    if not found:
        raise UnknownModel(
            f"{reference.repo_id} has no GGUF model. Look for a repository of the same model whose name ends in -GGUF."
        )
    if reference.file:
        return _by_file(reference, found)
    if reference.quant:
        return _only(reference, found, _by_quant(reference.quant, found))
    for quant in PREFERRED:
        if matching := [variant for variant in found if variant.quant == quant]:
            return _only(reference, found, matching)
    return _only(reference, found, found)


def variants(files: Sequence[RepoFile]) -> list[Variant]:
    """The models among `files`, sorted by name. What is incomplete, no model, or oddly named is left aside."""
    groups: dict[tuple[str, int], dict[int, RepoFile]] = {}
    for file in files:
        if not safe_file(file.path) or _NOT_MODELS.search(file.path.rpartition("/")[2][: -len(".gguf")]):
            continue
        part = _PART.fullmatch(file.path)
        if part is None:
            groups[file.path[: -len(".gguf")], 1] = {1: file}
        elif 1 <= int(part["count"]) <= PARTS_MAX:
            groups.setdefault((part["stem"], int(part["count"])), {})[int(part["number"])] = file
    return [
        Variant(stem, quant_of(stem), tuple(parts[number] for number in range(1, count + 1)))
        for (stem, count), parts in sorted(groups.items())
        if set(parts) == set(range(1, count + 1))
    ]


def quant_of(stem: str) -> str:
    """The quantisation that a file's path tells, in upper case: from its name, else from its folder; or empty."""
    for segment in reversed(stem.split("/")):
        if found := list(_QUANT.finditer(segment)):
            quant = found[-1]["quant"].upper()
            return "F" + quant[2:] if quant.startswith("FP") else quant
    return ""


def stem_of(path: str) -> str:
    """A file's path without `.gguf` and without the number of a part."""
    part = _PART.fullmatch(path)
    return part["stem"] if part else path[: -len(".gguf")]


def parts_of(path: str) -> list[str]:
    """The paths of all parts of the model that the file at `path` belongs to, in order; itself if it is whole."""
    part = _PART.fullmatch(path)
    if part is None or not 1 <= int(part["count"]) <= PARTS_MAX:
        return [path]
    return [f"{part['stem']}-{number:05}-of-{part['count']}.gguf" for number in range(1, int(part["count"]) + 1)]


def model_name(stem: str) -> str:
    """A model's name as the store has it: the file's, in lower case, without blanks."""
    return "-".join(stem.rpartition("/")[2].lower().split())


def _by_file(reference: HubReference, found: Sequence[Variant]) -> Variant:
    for variant in found:
        if any(file.path == reference.file for file in variant.files):
            return variant
    raise UnknownModel(f"{reference.repo_id} has no complete model file {reference.file}. It has: {_names(found)}.")


def _by_quant(quant: str, found: Sequence[Variant]) -> list[Variant]:
    """Those of exactly this quantisation; else those that differ by the prefix `UD-`; else those so named."""
    wanted = quant.upper()
    for matches in (
        [variant for variant in found if variant.quant == wanted],
        [variant for variant in found if variant.quant.removeprefix("UD-") == wanted.removeprefix("UD-")],
        [variant for variant in found if variant.stem.upper().endswith(("-" + wanted, "." + wanted, "_" + wanted))],
    ):
        if matches:
            return matches
    return []


def _only(reference: HubReference, found: Sequence[Variant], matching: Sequence[Variant]) -> Variant:
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise BadRequest(
            f"{reference} may mean several models: {_names(matching)}. Write hf:{reference.repo_id}/ and one of them."
        )
    quants = sorted({variant.quant for variant in found if variant.quant})
    there = ", ".join(quants[:NAMES_SHOWN]) or _names(found)
    raise UnknownModel(f"{reference.repo_id} has no {reference.quant}. It has: {there}.")


def _names(found: Sequence[Variant]) -> str:
    names = [variant.files[0].path for variant in found]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
