"""What each screen looks like, at two sizes and in every state: kept as text, so that a change shows in a review.

`scripts/test tests/tui/test_pictures.py --rewrite-pictures` writes them anew.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.tui.conftest import Office, Seat, settle
from tests.tui.scenes import SCENES
from tui.app import BEAT_S
from tui.feed import Contact

Compare = Callable[[Seat, str], Awaitable[None]]
PICTURES = Path(__file__).parent / "pictures"
SIZES = ((80, 24), (200, 60))
SCREENS = {
    "mesh": ("f1",),
    "chat": ("f2",),
    "models": ("f3",),
    "invite": ("i",),
    "join": ("j",),
    "node": ("enter",),
    "leave": ("q",),
    "remove": ("right", "x"),
    "load": ("f3", "l"),
    "pull": ("f3", "p"),
    "settings": ("f2", "ctrl+o"),
}
DIALOGS = tuple(SCREENS)[3:]
PLAN = {
    "summary": "It runs on 2 nodes.",
    "stages": [
        {"node": "aa", "name": "desk", "engine": "llama.cpp", "layers": [0, 20], "memory_bytes": 2e9, "ms": 3.5},
        {"node": "bb", "name": "lap", "engine": "mlx", "layers": [20, 30], "memory_bytes": 1e9, "ms": 2.5},
    ],
    "predicted": {"tokens_per_s": 120.0, "ttft_ms": 80.0, "bottleneck": "desk: 58% of a token's time"},
    "alternatives": [{"label": "desk alone", "predicted": {"tokens_per_s": 90.0}}],
    "excluded": [{"node": "cc", "name": "attic", "reason": "its owner keeps it out"}],
    "infeasible": None,
    "guessed": [],
}


def pictures() -> list[tuple[str, str, tuple[int, int]]]:
    """Every screen in every state at both sizes; dialogs, which hardly differ, in one state."""
    screens = [(screen, scene, size) for screen in ("mesh", "chat", "models") for scene in SCENES for size in SIZES]
    return [*screens, *((dialog, "five_nodes", size) for dialog in DIALOGS for size in SIZES)]


@pytest.mark.parametrize(("screen", "scene", "size"), pictures())
async def test_a_screen_looks_as_it_did(
    office: Office, compare: Compare, screen: str, scene: str, size: tuple[int, int]
) -> None:
    async with office.seat(SCENES[scene](), size) as seat:
        seat.daemon.node.plan_answer = PLAN
        await seat.until(lambda: seat.app.view.state == SCENES[scene]())
        await settle(seat)
        await seat.press(*SCREENS[screen])
        await compare(seat, f"{screen}-{scene}-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES)
async def test_no_node_looks_as_it_did(
    office: Office, compare: Compare, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    office.folder = Path("home")  # which is named in the sentence
    async with office.alone(size) as seat:
        await seat.until(lambda: seat.app.contact.contact is Contact.ABSENT)
        await seat.sees("s starts it in the background")
        await compare(seat, f"absent-{size[0]}x{size[1]}")


@pytest.mark.parametrize("size", SIZES)
async def test_a_node_of_another_version_looks_as_it_did(
    office: Office, compare: Compare, size: tuple[int, int]
) -> None:
    async with office.seat(SCENES["five_nodes"](), size, version="9.9.9") as seat:
        await seat.sees("r stops it and starts it anew")
        await compare(seat, f"version-{size[0]}x{size[1]}")


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Compare:
    """Waits until a screen is its picture; what differs from run to run is left out."""

    async def hold(seat: Seat, name: str) -> None:
        path = PICTURES / f"{name}.txt"
        if request.config.getoption("--rewrite-pictures"):
            await seat.pilot.pause(1.2 * BEAT_S)  # what a dialog came over is drawn at the next beat
            await settle(seat)
            path.write_text(same_each_time(seat.screen), "utf-8")
        wanted = path.read_text("utf-8")
        with contextlib.suppress(AssertionError):  # what differs is told below
            await seat.until(lambda: same_each_time(seat.screen) == wanted)
        assert same_each_time(seat.screen) == wanted

    return hold


def same_each_time(shown: str) -> str:
    return re.sub(r"for \d+ more", "for 120 more", shown) + "\n"
