"""What the daemon and a pull's child call each other by; apart, so that no daemon loads the hub's library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from peerinfer.models.pull.reference import FileReference, HubReference, WebReference
from peerinfer.packing import pack, unpack

HUB: Final = 1
WEB: Final = 2
FILE: Final = 3
"""Calls to the child: fetch what a reference of that kind names."""
MESSAGE_MAX_BYTES: Final = 1 << 20
"""A model of 999 parts, each with its path."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is."""

    file: str
    """The file that is being fetched or verified now."""
    done_bytes: int
    """Of the whole model, all its parts."""
    total_bytes: int
    """0 while it is not known."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the child brought."""

    name: str
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    size_bytes: int
    licence: str


def call_of(reference: HubReference | WebReference | FileReference, folder: str) -> tuple[int, bytes]:
    """Kind and body of the call that fetches `reference`; a file from the web goes to `folder`."""
    match reference:
        case HubReference(owner, repo, quant, file):
            return HUB, pack([owner, repo, quant, file])
        case WebReference(url, sha256, file):
            return WEB, pack([url, sha256, file, folder])
        case FileReference(path):
            return FILE, pack([path])


def texts(body: bytes | memoryview) -> list[str]:
    """The texts of a call's body."""
    return [str(item) for item in cast("list[object]", unpack(body, MESSAGE_MAX_BYTES))]


def pack_progress(progress: Progress) -> bytes:
    """An event's body."""
    return pack([progress.file, progress.done_bytes, progress.total_bytes])


def unpack_progress(body: bytes) -> Progress:
    """The progress that an event tells. Raises `ValueError`."""
    match unpack(body, MESSAGE_MAX_BYTES):
        case [str(file), int(done), int(total)]:
            return Progress(file, done, total)
        case _:
            raise ValueError("not a progress event")


def pack_fetched(fetched: Fetched) -> bytes:
    """An answer's body."""
    return pack([fetched.name, fetched.paths, fetched.sha256, fetched.size_bytes, fetched.licence])


def unpack_fetched(body: bytes) -> Fetched:
    """What an answer tells. Raises `ValueError`."""
    match cast(Any, unpack(body, MESSAGE_MAX_BYTES)):
        case [str(name), paths, digests, int(size), str(licence)]:
            return Fetched(name, _all_texts(paths), _all_texts(digests), size, licence)
        case _:
            raise ValueError("not an answer to a pull")


def _all_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("not a list of texts")
    return tuple(str(item) for item in cast("list[object]", value))
