"""What can go wrong in a chat: errors at once, models that go, answers that break twice, text that is no Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.events import InstancesChanged
from peerinfer.control.state import InstanceState
from peerinfer.errors import ContextExceeded, LinkDown, PeerinferError, QueueFull, StageLost
from tests.api.fakes import Script
from tests.tui.conftest import Office, Seat
from tests.tui.scenes import five_nodes
from tui.widgets.message import Answer


async def ask(seat: Seat, text: str = "why") -> None:
    await seat.press("f2")
    await seat.type(text)
    await seat.press("enter")


@pytest.mark.parametrize("error", [ContextExceeded("The prompt is too long: shorten it."), PeerinferError("A fault.")])
async def test_an_error_at_once_is_told_and_the_chat_goes_on(office: Office, error: PeerinferError) -> None:
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(refusal=error)
        await ask(seat)
        await seat.sees(str(error).partition(":")[0], "Ctrl-R asks again")
        seat.daemon.chat.script = Script(pieces=("Well.",))
        await seat.press("ctrl+r")
        await seat.sees("Well.")


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
    state = five_nodes()
    moving = replace(state.instances[0], state=InstanceState.LOADING)
    async with office.seat(replace(state, instances=(moving,))) as seat:
        seat.daemon.chat.script = Script(pieces=("One, ",), error=StageLost("Lost."))
        await ask(seat)
        await seat.sees("waits for its layers")
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
