"""The door to the daemon: follows its events through restarts, and hands them to a view of the mesh."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peerinfer import __version__
from peerinfer.api.client import ApiClient
from peerinfer.errors import DaemonAbsent, PeerinferError
from tui.mesh.view import MeshView

RETRY_S: Final = (0.2, 0.5, 1.0, 2.0)
"""Pauses before another try to reach the daemon; the last one is kept to."""
STOP_S: Final = 30.0
"""For a daemon to stop: engines free their memory, links say goodbye."""
PATIENCE_S: Final = 3.0
"""A daemon that restarts is back by then; only after that people are told that there is none."""


class Contact(enum.StrEnum):
    """How this terminal stands to the daemon."""

    SEEKING = "seeking"
    LIVE = "live"
    LOST = "lost"
    """It was there a moment ago: what is shown is old."""
    ABSENT = "absent"
    STUCK = "stuck"
    """It runs, and what it says cannot be used."""
    OTHER_VERSION = "other version"


@dataclass(frozen=True, slots=True)
class Connection:
    """Contact, and a sentence on what is wrong, if something is."""

    contact: Contact
    sentence: str = ""


class Feed:
    """Follows the daemon of one home. `changed` is told of everything new, at any rate."""

    def __init__(self, home: Path, view: MeshView, changed: Callable[[], None]) -> None:
        self.connection = Connection(Contact.SEEKING)
        self._version = ""
        """Of the daemon that was asked last."""
        self._home = home
        self._view = view
        self._changed = changed
        self._lost_at: float | None = time.monotonic()
        self._accepted_version = __version__

    def accept_version(self) -> None:
        """Goes on with a daemon of another version, as a person wished."""
        self._accepted_version = self._version
        self._become(Connection(Contact.LIVE if self._lost_at is None else Contact.LOST))

    async def until_absent(self) -> None:
        """Waits until the daemon that was asked to stop has gone, at most `STOP_S`."""
        for _ in range(round(STOP_S / RETRY_S[0])):
            if _is_absent(self._home):
                return
            await asyncio.sleep(RETRY_S[0])

    async def run(self) -> None:
        """Follows until it is cancelled."""
        tries = 0
        while True:
            began = time.monotonic()
            try:
                await self._follow()
                self._missed(DaemonAbsent("The node stops, or goes to another mesh."))
            except PeerinferError as error:
                self._missed(error)
            tries = 0 if time.monotonic() - began > PATIENCE_S else tries + 1
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S)) - 1 if tries else 0])

    async def _follow(self) -> None:
        """One connection, until it ends. Raises what ended it."""
        async with ApiClient(self._home) as client:
            self._version = client.record.version
            if self._is_other:  # it may say what is not understood here
                self._become(self._other_version())
            async for news in client.events():
                self._view.take(news, time.monotonic(), time.time())
                self._lost_at = None
                self._become(self._other_version() if self._is_other else Connection(Contact.LIVE))

    @property
    def _is_other(self) -> bool:
        return self._version not in {"", self._accepted_version}

    def _other_version(self) -> Connection:
        version = f"version {self._version[:32]} of peerinfer"
        return Connection(Contact.OTHER_VERSION, f"The node on this machine runs {version}, and this is {__version__}.")

    def _missed(self, error: PeerinferError) -> None:
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        is_absent = _is_absent(self._home)
        if not is_absent and self._is_other:
            return  # what is wrong with it is its version
        if now - self._lost_at < PATIENCE_S and not (is_absent and self._view.state is None):
            self._become(Connection(Contact.LOST, str(error)))
        else:
            is_gone = is_absent or isinstance(error, DaemonAbsent)
            self._become(Connection(Contact.ABSENT if is_gone else Contact.STUCK, str(error)))

    def _become(self, standing: Connection) -> None:
        self.connection = standing
        self._changed()


def _is_absent(home: Path) -> bool:
    """Whether no daemon runs there at all: then nobody needs to wait for its restart."""
    try:
        ApiClient(home)
    except DaemonAbsent:
        return True
    except PeerinferError:
        return False
    return False
