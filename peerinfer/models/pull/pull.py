"""The one entry: what a person typed becomes whole model files. Equal pulls are one; a few run at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from peerinfer.errors import QueueFull
from peerinfer.models.pull.calls import Fetched, Progress
from peerinfer.models.pull.catalogue import Catalogue
from peerinfer.models.pull.host import fetch_in_child
from peerinfer.models.pull.reference import (
    FileReference,
    HubReference,
    Reference,
    ShortName,
    WebReference,
    parse_reference,
)

RUNNING_MAX: Final = 2
"""Pulls that fetch at a time: one fills most lines, a second is the small one that a person wants meanwhile."""
PULLS_MAX: Final = 16
"""Pulls that run or wait; more is a program gone wrong."""
CALLERS_MAX: Final = 64
"""That wait for the same pull."""

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is on this machine's disk, whole and verified."""

    name: str
    """Suggested: the catalogue's, else the file's in lower case without `.gguf` and number of part."""
    paths: tuple[Path, ...]
    """All parts in order. Those from the hub lie in the hub's own cache."""
    sha256: tuple[str, ...]
    """Of each file, 64 hex digits."""
    size_bytes: int
    """Of all files."""
    reference: str
    """Where it came from, in full: what to type to get the same again."""
    licence: str
    """As the catalogue or the model's page names it; empty if nobody does."""


@dataclass(slots=True)
class _Running:
    """One pull and those who wait for it."""

    task: asyncio.Task[Pulled]
    callers: list[Tell] = field(default_factory=list[Tell])
    last: Progress | None = None

    def tell(self, progress: Progress) -> None:
        self.last = progress
        for caller in tuple(self.callers):
            caller(progress)


class PullDesk:
    """All pulls of a daemon."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, Path], _Running] = {}
        self._turn = asyncio.Semaphore(RUNNING_MAX)

    async def pull(self, reference: str, folder: Path, catalogue: Catalogue, progress: Tell) -> Pulled:
        """Brings the model that `reference` names to this machine; a file from the web to `folder`.

        A second caller with the same reference joins the first. The pull ends when its last caller is cancelled; what
        came is kept, and gone on from next time. Raises `BadRequest` (not a reference, or several models may be meant),
        `UnknownModel`, `AccessDenied`, `PullFailed`, `CorruptModel`, `DiskFull`, `HomeError` or `QueueFull`.
        """
        parsed, name, licence = _resolved(parse_reference(reference), catalogue)
        running = self._join((str(parsed), folder), parsed, folder)
        if len(running.callers) >= CALLERS_MAX:
            raise QueueFull("Too many wait for this pull already. Try again when it is done.")
        running.callers.append(progress)
        if running.last is not None:
            progress(running.last)
        try:
            pulled = await asyncio.shield(running.task)
        finally:
            running.callers.remove(progress)
            if not running.callers and not running.task.done():
                running.task.cancel()
                await asyncio.gather(running.task, return_exceptions=True)
        return Pulled(
            name or pulled.name,
            pulled.paths,
            pulled.sha256,
            pulled.size_bytes,
            pulled.reference,
            licence or pulled.licence,
        )

    async def stop(self) -> None:
        """Cancels all pulls: their callers get `asyncio.CancelledError`."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _join(
        self, key: tuple[str, Path], parsed: HubReference | WebReference | FileReference, folder: Path
    ) -> _Running:
        """The pull of that key: the one that runs, or a new one."""
        running = self._running.get(key)
        if running is not None and not running.task.cancelling():
            return running
        if len(self._running) >= PULLS_MAX:
            raise QueueFull(f"{PULLS_MAX} pulls run or wait already. Try again when one is done.")
        fresh: _Running

        async def run() -> Pulled:
            async with self._turn:
                return _pulled(await fetch_in_child(parsed, folder, fresh.tell), str(parsed))

        fresh = _Running(asyncio.create_task(run(), name=f"pull {parsed}"))
        self._running[key] = fresh
        fresh.task.add_done_callback(lambda _: self._forget(key, fresh))
        return fresh

    def _forget(self, key: tuple[str, Path], ended: _Running) -> None:
        if self._running.get(key) is ended:
            del self._running[key]
        if not ended.task.cancelled():
            ended.task.exception()  # told to the callers; that none is left is fine, too


def _resolved(parsed: Reference, catalogue: Catalogue) -> tuple[HubReference | WebReference | FileReference, str, str]:
    """What to fetch, and the catalogue's name and licence for it."""
    if not isinstance(parsed, ShortName):
        return parsed, "", ""
    entry = catalogue.find(parsed)
    return entry.reference, entry.name, entry.licence


def _pulled(fetched: Fetched, reference: str) -> Pulled:
    paths = tuple(Path(path) for path in fetched.paths)
    return Pulled(fetched.name, paths, fetched.sha256, fetched.size_bytes, reference, fetched.licence)
