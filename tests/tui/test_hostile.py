"""A hostile peer: names and sentences with control characters, direction marks, markup, and far too long ones."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control.events import MemberChanged
from peerinfer.control.state import ClusterState, Device, Liveness
from tests.tui.conftest import Office, Seat, settle
from tests.tui.scenes import LAP, OLD, five_nodes, held, report
from tui.words import MARKS_MAX, SENTENCE_MAX, cells, fit, harmless, name_of, prose, sentence

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\r\nsecond line"
RIGHT_TO_LEFT = "\u202egnp.exe\u2066\u200f\u061c"
TALL = "Z" + "\u0300\u0301\u0336" * 200
MARKUP = "[@click=app.exit_now]press[/] [bold red]me[/] [link=http://x]"
LONG = "long-" * 2000
HOSTILE = (ESCAPES, RIGHT_TO_LEFT, TALL, MARKUP, LONG, "", "   ", "\u2028\u2029\ufeff", "家のパソコン" * 20, "👩‍💻🏴‍☠️")


def hostile_mesh(name: str) -> ClusterState:
    """Two nodes of that name; with it in every word that a node tells."""
    state = five_nodes()
    told = replace(
        report(16, 8, Device("cpu", name, throttled=name, driver=name), stages=(held(1, 3.1, 0.4, state=name),)),
        version=name,
        engines=(name,),
        troubles=((name, name),),
        thermal=name,
    )
    members = [replace(one, name=name, report=told) if one.id in {LAP, OLD} else one for one in state.members]
    return replace(state, members=tuple(members), mesh=name)


def hostile_plan(name: str) -> dict[str, object]:
    """A plan that quotes what nodes call themselves."""
    stage = {"node": name, "name": name, "engine": name, "layers": [0, 9], "ms": 1.0}
    return {
        "summary": name,
        "stages": [stage],
        "predicted": {"tokens_per_s": 5.0, "bottleneck": name},
        "alternatives": [{"label": name}],
        "excluded": [{"name": name, "reason": name}],
    }


def is_harmless(screen: str) -> bool:
    """Whether a terminal only draws it: each character is one that is seen, and at most two marks stand on a letter."""
    marks = 0
    for letter in screen.replace("\n", ""):
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if unicodedata.category(letter).startswith("C") or marks > MARKS_MAX:
            return False
    return True


@pytest.mark.parametrize(
    ("name", "size"), [*((name, (80, 24)) for name in HOSTILE), (ESCAPES, (160, 50)), (LONG, (160, 50))]
)
async def test_hostile_names_are_shown_harmless_everywhere(office: Office, name: str, size: tuple[int, int]) -> None:
    async with office.seat(hostile_mesh(name), size) as seat:
        seat.daemon.node.plan_answer = hostile_plan(name)
        await seat.until(lambda: seat.app.view.state is not None)
        await settle(seat)
        for keys in (("right",), ("enter",), ("escape", "x"), ("n", "f2"), ("f3",), ("f1",)):
            await seat.press(*keys)
            await settle(seat)
            assert is_harmless(seat.screen), repr(seat.screen)
            assert within(seat, size)
        seat.daemon.tell(MemberChanged(OLD, name + "2", Liveness.GONE))
        await seat.until(lambda: bool(seat.app.view.lines))
        await seat.pilot.pause(0.1)
        assert is_harmless(seat.screen), repr(seat.screen)
        assert within(seat, size)
        assert seat.app.is_running


def within(seat: Seat, size: tuple[int, int]) -> bool:
    rows = seat.screen.split("\n")
    return len(rows) <= size[1] and all(cells(row) <= size[0] for row in rows)


async def test_markup_in_a_name_is_text(office: Office) -> None:
    async with office.seat(hostile_mesh(MARKUP), (160, 50)) as seat:
        await seat.sees("[@click=app.exit_now]press[/]")
        await seat.press("right", "enter")
        await seat.sees("[@click=app.exit_now]press[/] [bold red]me[/]", "id        ")
        await seat.press("escape", "x")
        await seat.sees("Remove [@click=app.exit_now]press[/]")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(texts)
def test_names_and_sentences_have_nothing_that_a_terminal_obeys(text: str) -> None:
    for shown in (harmless(text), sentence(text), name_of(text, "ab" * 16)):
        assert is_harmless(shown)
        assert "\n" not in shown
    assert len(harmless(text)) <= 64
    assert name_of(text, "ab" * 16)


@given(texts, st.integers(0, 40))
def test_what_is_fitted_fits(text: str, width: int) -> None:
    shown = harmless(text)
    assert cells(fit(shown, width)) <= width
    assert fit(shown, 200) == shown or cells(shown) > 200


@given(texts)
def test_an_answer_keeps_its_lines_and_loses_what_is_obeyed(text: str) -> None:
    shown = prose(text)
    assert shown.count("\n") == text.count("\n")
    assert all(letter in "\n\t" or unicodedata.category(letter) != "Cc" for letter in shown)
    assert prose(text[: len(text) // 2]) == shown[: len(prose(text[: len(text) // 2]))]


def test_a_sentence_has_a_length() -> None:
    assert len(sentence("word " * 10_000)) <= SENTENCE_MAX
    assert harmless("a" * 10_000_000) == "a" * 64
