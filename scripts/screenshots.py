"""Makes the pictures of the README from the real thing: three nodes on this machine, paired, a model split over them.

The terminal face runs over one of the nodes without a terminal, is driven by keys, and draws itself as SVG while an
answer runs through all three. Fonts are left to the viewer: nothing is fetched for a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

from textual.pilot import Pilot

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peerinfer.cli.background import NODE_COMMAND
from peerinfer.cli.demo_nodes import DemoNode, pair
from tests.bundled import bundled_model
from tui.app import PeerinferApp
from tui.widgets.message import Answer

ROOT: Final = Path(__file__).resolve().parent.parent
NAMES: Final = ("desk", "kitchen-laptop", "bedroom-pc")
SIZE: Final = (112, 36)
WAIT_S: Final = 120.0
QUESTION: Final = "Why is the sky blue? Explain it step by step, in detail."
CONTEXT: Final = 2048
FLOWING: Final = 30.0
"""Tokens per second from which an answer is in full flow."""


@contextlib.asynccontextmanager
async def mesh(folder: Path) -> AsyncGenerator[list[DemoNode]]:
    """Paired nodes with the bundled model split over all of them."""
    nodes = [DemoNode(name, folder, NODE_COMMAND, threads=1) for name in NAMES]
    try:
        await asyncio.gather(*(node.start(bundled_model()) for node in nodes))
        for guest in nodes[1:]:
            await pair(nodes[0].client, guest.client)
        yield nodes
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Lets the face run until `holds` does."""
    end = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("The face never showed what was waited for.")
        await pilot.pause(0.1)


def picture(app: PeerinferApp, title: str) -> str:
    """The screen as SVG, without the fonts that would be fetched."""
    drawn = re.sub(r"@font-face\s*{[^}]*}|<!--.*?-->", "", app.export_screenshot(title=title))
    return drawn.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


def rate(app: PeerinferApp) -> float:
    """Tokens per second that go around the ring now."""
    state = app.view.state
    return app.view.rates.now(state.instances[0].id, time.monotonic()) if state and state.instances else 0.0


async def draw(folder: Path, size: tuple[int, int]) -> dict[str, str]:
    """The pictures by their names."""
    async with mesh(folder) as nodes:
        app = PeerinferApp(nodes[0].home)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.view.state is not None and len(app.view.state.members) == len(NAMES))
            state = app.view.state
            await until(pilot, lambda: all(one.report for one in (app.view.state or state).members))  # pyright: ignore[reportOptionalMemberAccess]
            wish = {"model": "smollm2", "context": CONTEXT, "min_nodes": len(NAMES)}
            async for _ in nodes[0].client.follow("load", wish):
                pass
            await pilot.press("f2")
            await pilot.press(*(each if each.isalnum() else KEYS[each] for each in QUESTION), "enter")
            await until(pilot, lambda: bool(app.screen.query(Answer)) and len(app.screen.query_one(Answer).text) > 300)
            pictures = {"chat": picture(app, "peerinfer up")}
            await pilot.press("f1")
            await until(pilot, lambda: rate(app) > FLOWING)
            await pilot.pause(0.5)
            return {**pictures, "mesh": picture(app, "peerinfer up")}


KEYS: Final = {" ": "space", "?": "question_mark", ".": "full_stop", ",": "comma"}


def main() -> int:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=ROOT / "tui" / "pictures", metavar="DIR")
    asked = parser.parse_args()
    target: Path = asked.to
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peerinfer-pictures-") as folder:
        for name, drawn in asyncio.run(draw(Path(folder), SIZE)).items():
            (target / f"{name}.svg").write_text(drawn, "utf-8")
            print(f"{target / name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
