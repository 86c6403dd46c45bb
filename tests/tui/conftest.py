"""The terminal face over a daemon in memory, driven by keys as a person would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from textual._context import visible_screen_stack
from textual.pilot import Pilot
from textual.strip import Strip

from peerinfer.control.state import ClusterState
from tests.tui.fake_daemon import FakeDaemon
from tui.app import PeerinferApp
from tui.feed import Contact

WAIT_S = 6.0
SIZE = (80, 24)
KEYS = {" ": "space", "-": "minus", ".": "full_stop", ":": "colon", "\n": "ctrl+j"}


class Seat:
    """A person at a terminal: keys, and what is on the screen."""

    def __init__(self, app: PeerinferApp, pilot: Pilot[None], daemon: FakeDaemon | None) -> None:
        self.app = app
        self.pilot = pilot
        self._daemon = daemon

    @property
    def daemon(self) -> FakeDaemon:
        assert self._daemon is not None
        return self._daemon

    @property
    def screen(self) -> str:
        """All that is shown, row by row."""
        return "\n".join("".join(segment.text for segment in row).rstrip() for row in self.strips())

    def strips(self) -> list[Strip]:
        """The same with its colours."""
        visible_screen_stack.set(self.app._background_screens)  # else a dialog is drawn, and kept, with nothing behind
        return self.app.screen._compositor.render_strips()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        await self.pilot.press(*(KEYS.get(letter, letter) for letter in text))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Lets the app run until `holds` does."""
        end = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < end, self.screen
            await self.pilot.pause(0.02)

    async def sees(self, *texts: str) -> None:
        """Waits until all of `texts` are on the screen."""
        await self.until(lambda: all(text in self.screen for text in texts))

    async def misses(self, text: str) -> None:
        """Waits until `text` is on the screen no more."""
        await self.until(lambda: text not in self.screen)


async def settle(seat: Seat) -> None:
    """Until what is shown stays: plans are asked for one by one, and redraws wait for each other."""
    before, same = "", 0
    while same < 4:
        await seat.pilot.pause(0.08)
        same = same + 1 if seat.screen == before else 0
        before = seat.screen


@contextlib.asynccontextmanager
async def opened(app: PeerinferApp, size: tuple[int, int]) -> AsyncGenerator[Pilot[None]]:
    """The app without a terminal. Its work ends before its screens, as when one leaves it: a pilot by itself takes the
    screens away under the work.
    """
    async with app.run_test(size=size, notifications=True) as pilot:
        try:
            yield pilot
        finally:
            app.workers.cancel_all()


class Office:
    """Opens terminals over homes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.asynccontextmanager
    async def seat(self, state: ClusterState, size: tuple[int, int] = SIZE, **daemon: str) -> AsyncGenerator[Seat]:
        """A terminal over a daemon that shows `state`."""
        async with FakeDaemon(self.folder, state, **daemon) as running, self.alone(size, running) as seat:
            await seat.until(lambda: seat.app.contact.contact in {Contact.LIVE, Contact.OTHER_VERSION})
            await seat.until(lambda: bool(seat.screen.strip()))
            yield seat

    @contextlib.asynccontextmanager
    async def alone(self, size: tuple[int, int] = SIZE, daemon: FakeDaemon | None = None) -> AsyncGenerator[Seat]:
        """A terminal over whatever is in the folder."""
        app = PeerinferApp(self.folder)
        app.animation_level = "none"
        async with opened(app, size) as pilot:
            yield Seat(app, pilot, daemon)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches: redraws need not be rare."""
    monkeypatch.setattr("tui.face.REDRAW_S", 0.02)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)
