"""Themes, no colours, small and odd terminals: what is meant can still be read."""

from __future__ import annotations

import pytest

from peerinfer.control.events import MemberChanged
from peerinfer.control.state import Liveness
from tests.tui.conftest import Office, Seat
from tests.tui.scenes import OLD, five_nodes, loading, node_lost
from tui.widgets.graph import MeshGraph

READABLE = 3.0
"""Contrast by WCAG 2.2 (1.4.3) that large or bold text needs; terminals' text is in between."""


def styles(seat: Seat) -> list[tuple[str, tuple[int, int, int], tuple[int, int, int]]]:
    """Each piece of text that is seen, with its colour and its ground."""
    found: list[tuple[str, tuple[int, int, int], tuple[int, int, int]]] = []
    for row in seat.strips():
        for segment in row:
            style = segment.style
            if segment.text.strip() and style is not None and style.color and style.bgcolor:
                ink, ground = style.color.get_truecolor(), style.bgcolor.get_truecolor()
                found.append((segment.text, (ink.red, ink.green, ink.blue), (ground.red, ground.green, ground.blue)))
    return found


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: tuple[int, int, int]) -> float:
        parts = [value / 255 for value in colour]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("screen", ["f1", "f2", "f3"])
@pytest.mark.parametrize("is_light", [False, True])
async def test_everything_can_be_read_in_light_and_dark(office: Office, screen: str, is_light: bool) -> None:
    async with office.seat(node_lost(), (120, 40)) as seat:
        if is_light:
            await seat.press("t")
        await seat.press(screen)
        await seat.pilot.pause(0.5)
        pale = [
            (text, round(contrast(ink, ground), 1)) for text, ink, ground in styles(seat) if any(map(str.isalnum, text))
        ]
        assert not [each for each in pale if each[1] < READABLE]


async def test_without_colours_nothing_is_told_by_colour_alone(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with office.seat(node_lost()) as seat:
        await seat.sees("◐ bedroom-pc", "no answer", "○ attic", "gone", "● desk", "★12", "◀ slowest", "┏")
        for text, ink, ground in styles(seat):
            assert len(set(ink)) == len(set(ground)) == 1, text  # greys only


@pytest.mark.parametrize("size", [(20, 8), (40, 12), (61, 17), (80, 24), (132, 43), (250, 70)])
async def test_any_size_works_and_may_change(office: Office, size: tuple[int, int]) -> None:
    async with office.seat(loading(), size) as seat:
        for screen in ("f1", "f2", "f3", "f1"):
            await seat.press(screen)
            await seat.pilot.pause(0.08)
        await seat.pilot.resize_terminal(80, 24)
        await seat.sees("qwen3:4b loading", "50 %", "kitchen-laptop")
        await seat.pilot.resize_terminal(*size)
        seat.daemon.tell(MemberChanged(OLD, "bedroom-pc", Liveness.GONE))
        await seat.until(lambda: bool(seat.app.view.lines))
        assert seat.app.is_running


async def test_a_graph_that_is_taller_than_the_terminal_scrolls_to_what_is_pointed_at(office: Office) -> None:
    async with office.seat(five_nodes(), (40, 20)) as seat:
        graph = seat.app.screen.query_one(MeshGraph)
        await seat.until(lambda: bool(graph.pointed))
        assert "attic" not in seat.screen
        await seat.press("down", "down", "down", "down")
        await seat.sees("attic")
