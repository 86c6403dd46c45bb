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
        self._version: str | None = None
        """Of the daemon that there is contact to."""
        self._home = home
        self._view = view
        self._changed = changed
        self._lost_at: float | None = time.monotonic()
        self._accepted_version = __version__

    def accept_version(self) -> None:
        """Goes on with a daemon of another version, as a person wished."""
        if self._version is not None:
            self._accepted_version = self._version
            self._become(Connection(Contact.LIVE))

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
            try:
                await self._follow()
            except PeerinferError as error:
                sentence = str(error)
            else:
                sentence = "The node stops, or goes to another mesh."
            tries = 0 if self._version is not None else tries + 1
            self._version = None
            self._missed(sentence)
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])

    async def _follow(self) -> None:
        """One connection, until it ends. Raises what ended it."""
        async with ApiClient(self._home) as client:
            async for news in client.events():
                self._view.take(news, time.monotonic(), time.time())
                self._met(client.record.version)

    def _met(self, version: str) -> None:
        self._version, self._lost_at = version, None
        if version == self._accepted_version:
            self._become(Connection(Contact.LIVE))
            return
        self._become(
            Connection(
                Contact.OTHER_VERSION,
                f"The node on this machine runs version {version[:32]} of peerinfer, and this is {__version__}.",
            )
        )

    def _missed(self, sentence: str) -> None:
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        is_over = now - self._lost_at >= PATIENCE_S or (self._view.state is None and _is_absent(self._home))
        self._become(Connection(Contact.ABSENT if is_over else Contact.LOST, sentence))

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
