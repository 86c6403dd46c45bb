"""What can go wrong in a chat: errors at once, models that go, answers that break twice, text that is no Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.widgets import Select

from peerinfer.control.events import InstancesChanged
from peerinfer.control.state import ClusterState, InstanceState
from peerinfer.errors import ContextExceeded, LinkDown, PeerinferError, QueueFull, StageLost
from tests.api.fakes import Script
from tests.tui.conftest import KEYS, Office, Seat
from tests.tui.scenes import five_nodes
from tui.widgets.message import Answer
from tui.widgets.prompt import Prompt


async def ask(seat: Seat, text: str = "why") -> None:
    await seat.press("f2")
    await seat.type(text)
    await seat.press("enter")


def moving() -> ClusterState:
    """The mesh while the model's layers are on their way elsewhere."""
    state = five_nodes()
    return replace(state, instances=(replace(state.instances[0], state=InstanceState.LOADING),))


async def break_off(seat: Seat) -> None:
    """An answer whose stage is lost after its first word."""
    seat.daemon.chat.script = Script(pieces=("One, ",), error=StageLost("Lost."))
    await ask(seat)
    await seat.sees("waits for its layers")


@pytest.mark.parametrize(
    ("error", "advice"),
    [(ContextExceeded("The prompt is too long."), "Ctrl-N begins"), (PeerinferError("A fault."), "Ctrl-R asks again")],
)
async def test_an_error_at_once_is_told_and_the_chat_goes_on(
    office: Office, error: PeerinferError, advice: str
) -> None:
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(refusal=error)
        await ask(seat)
        await seat.sees(str(error), advice, "broken off")
        seat.daemon.chat.script = Script(pieces=("Well.",))
        await seat.press("ctrl+r")
        await seat.sees("Well.")
        seat.daemon.chat.script = Script(refusal=error)
        await seat.type("so long")
        await seat.press("enter")
        await seat.sees("so long", str(error))
        seat.daemon.chat.script = Script(pieces=("Fine.",))
        await seat.type("hi")
        await seat.press("enter")
        await seat.sees("Fine.")
        said = [(each.role, each.content) for each in seat.daemon.chat.requests[-1].messages]
        assert said == [("user", "why"), ("assistant", "Well."), ("user", "hi")]


@pytest.mark.parametrize("error", [StageLost("A stage was lost."), LinkDown("No link."), QueueFull("Too many ask.")])
async def test_what_passes_by_itself_is_tried_again_and_given_up_at_last(
    office: Office, error: PeerinferError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.asking.PAUSES_S", (0.01,))
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(pieces=("One, ",), error=error)
        await ask(seat)
        await seat.sees("One,", "Ctrl-R asks again")
        assert len(seat.daemon.chat.requests) == 4
        assert len({request.sampling.seed for request in seat.daemon.chat.requests}) == 1


async def test_a_model_that_is_unloaded_under_an_answer_is_not_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.asking.PAUSES_S", (0.5,))
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(pieces=("One, ",), error=StageLost("This model was unloaded."))
        await ask(seat)
        await seat.sees("One,")
        seat.daemon.tell(InstancesChanged(()))
        await seat.sees("This model was unloaded. Ctrl-R asks again.")
        assert len(seat.daemon.chat.requests) == 1


async def test_an_answer_can_be_stopped_while_it_waits_for_its_layers(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.asking.PAUSES_S", (0.05,))
    async with office.seat(moving()) as seat:
        await break_off(seat)
        await seat.press("escape")
        await seat.sees("stopped")
        assert len(seat.daemon.chat.requests) == 1


@pytest.mark.parametrize(
    "text",
    [
        ">" * 3000,
        "[" * 5000,
        "- " * 2000,
        "*_" * 3000,
        "```\n" * 500,
        "|" * 2000 + "\n" + "-|" * 1000,
        "[x](javascript:alert(1)) ![](http://127.0.0.1/x) <script>",
        "\x1b[2J\x1b]52;c;AAAA\x07\x9b1m",
        "a" * 20_000,
    ],
    ids=range(9),
)
async def test_text_that_is_no_markdown_does_no_harm(office: Office, text: str) -> None:
    async with office.seat(five_nodes()) as seat:
        cut = len(text) // 2
        seat.daemon.chat.script = Script(pieces=(text[:cut], text[cut:], " the end"))
        await ask(seat)
        await seat.until(lambda: bool(seat.app.screen.query(Answer)) and "tokens/s" in seat.screen)
        assert "\x1b" not in seat.screen
        seat.daemon.chat.script = Script(pieces=("Fine.",))
        await seat.type("and")
        await seat.press("enter")
        await seat.sees("Fine.")


async def test_what_is_typed_before_and_after_enter_stays_apart(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(pieces=("On ", "and on"), hang=True)
        await seat.press("f2")
        keys = [KEYS.get(letter, letter) for letter in "hello there"]
        await seat.pilot.press(*keys, "enter", *"next")
        await seat.sees("On and on")
        assert seat.daemon.chat.requests[0].messages[-1].content == "hello there"
        assert seat.app.screen.query_one(Prompt).text == "next"
        await seat.press("enter")
        await seat.sees("An answer is still coming")
        assert seat.app.screen.query_one(Prompt).text == "next"
        assert len(seat.daemon.chat.requests) == 1


async def test_an_answer_goes_on_while_a_person_watches_the_mesh(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.asking.PAUSES_S", (0.01,))
    async with office.seat(moving()) as seat:
        await break_off(seat)
        await seat.press("f1")
        seat.daemon.chat.script = Script(pieces=("One, ", "two."))
        seat.daemon.tell(InstancesChanged(five_nodes().instances))
        await seat.until(lambda: len(seat.daemon.chat.requests) == 2)
        await seat.press("f2")
        await seat.sees("One, two.", "The answer goes on.")


async def test_what_is_copied_has_nothing_that_a_terminal_obeys(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.press("f2", "ctrl+y")
        await seat.sees("There is no answer yet.")
        seat.daemon.chat.script = Script(pieces=("a\x1b[31mb\x1b]0;own\x07", "\u202egnp\u2066x\r &#8238;end"))
        await seat.type("go")
        await seat.press("enter")
        await seat.sees("tokens/s", "end")
        await seat.press("ctrl+y")
        assert seat.app.clipboard == "a[31mb]0;owngnpx &#8238;end"
        assert "\u202e" not in seat.screen


async def test_after_a_model_was_picked_letters_are_typed_and_no_commands(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.press("f2", "ctrl+l")
        await seat.until(lambda: seat.app.screen.query_one(Select).expanded)
        await seat.press("escape")
        await seat.until(lambda: seat.app.focused is seat.app.screen.query_one(Prompt))
        await seat.type("ti")
        assert seat.app.screen.query_one(Prompt).text == "ti"
