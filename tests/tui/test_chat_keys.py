"""The chat by its keys: asking, stopping, retrying, copying, settings, and an answer that goes on after a loss."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from peerinfer.control.events import InstancesChanged, MemberChanged
from peerinfer.control.state import InstanceState, Liveness
from peerinfer.errors import StageLost
from tests.api.fakes import MODEL, Script
from tests.tui.conftest import Office
from tests.tui.scenes import OLD, five_nodes
from tui.chat.conversation import Settings
from tui.screens.chat import ChatScreen


async def test_a_question_is_answered_and_retried(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(pieces=("The **sky** ", "is blue."))
        await seat.press("f2")
        await seat.type("why")
        await seat.press("enter")
        await seat.sees("why", "The sky is blue.", "80.0 tokens/s", "desk 0–18 → kitchen-laptop 18–24")
        seat.daemon.chat.script = Script(pieces=("Because.",))
        await seat.press("ctrl+r")
        await seat.sees("Because.")
        await seat.misses("The sky is blue.")
        first, second = seat.daemon.chat.requests
        assert (
            [message.content for message in second.messages]
            == [message.content for message in first.messages]
            == ["why"]
        )
        await seat.press("ctrl+y")
        assert seat.app.clipboard == "Because."
        await seat.press("ctrl+n")
        await seat.misses("Because.")


async def test_escape_stops_an_answer_and_frees_its_slot(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        seat.daemon.chat.script = Script(pieces=("It goes ", "on and on"), hang=True)
        await seat.press("f2")
        await seat.type("tell")
        await seat.press("enter")
        await seat.sees("It goes on and on")
        await seat.press("escape")
        await seat.sees("stopped")
        await asyncio.wait_for(seat.daemon.chat.answers[0].cancelled.wait(), 10)


async def test_settings_go_along_with_the_next_question(office: Office) -> None:
    async with office.seat(five_nodes(), (80, 40)) as seat:
        await seat.press("f2", "ctrl+o")
        await seat.sees("How answers are made")
        await seat.type("Be brief")
        await seat.press("tab", *["backspace"] * 3)
        await seat.type("3")
        await seat.press("ctrl+s")
        await seat.sees("Temperature must be a number from 0 to 2.")
        await seat.press("backspace")
        await seat.type("0")
        await seat.press("tab", "tab", "tab")
        await seat.type("7")
        await seat.press("tab", "space", "ctrl+s")
        await seat.misses("How answers are made")
        await seat.type("hi")
        await seat.press("enter")
        await seat.until(lambda: bool(seat.daemon.chat.requests))
        request = seat.daemon.chat.requests[0]
        assert [message.content for message in request.messages] == ["Be brief", "hi"]
        assert (request.sampling.temperature, request.sampling.seed, request.private) == (0.0, 7, True)
        await seat.sees("private")


async def test_an_answer_goes_on_after_its_stage_was_lost(office: Office) -> None:
    state = five_nodes()
    async with office.seat(state) as seat:
        seat.daemon.chat.script = Script(pieces=("One, ", "two, "), error=StageLost("bedroom-pc was lost under it."))
        await seat.press("f2")
        await seat.type("count")
        seat.daemon.tell(
            MemberChanged(OLD, "bedroom-pc", Liveness.UNREACHABLE),
            InstancesChanged((replace(state.instances[0], state=InstanceState.LOADING),)),
        )
        await seat.until(
            lambda: seat.app.view.state is not None and seat.app.view.state.instances[0].state is InstanceState.LOADING
        )
        await seat.press("enter")
        await seat.sees("One, two,", "bedroom-pc was lost under it.", "waits for its layers")
        seat.daemon.chat.script = Script(pieces=("One, ", "two, ", "three."))
        healed = replace(state.instances[0], stages=state.instances[0].stages[:3])
        seat.daemon.tell(InstancesChanged((healed,)))
        await seat.sees("One, two, three.", "The answer goes on.")
        first, second = seat.daemon.chat.requests
        assert first.sampling.seed == second.sampling.seed


async def test_a_model_is_picked_from_the_list(office: Office) -> None:
    state = five_nodes()
    tiny = replace(state.instances[0], id="7" * 32, model=MODEL, digest="7" * 64)
    async with office.seat(replace(state, instances=(state.instances[0], tiny))) as seat:
        await seat.press("f2")
        await seat.sees("the one that is loaded")
        await seat.press("ctrl+l")
        await seat.sees("qwen3:4b", MODEL)
        await seat.press("down", "down", "enter")
        await seat.until(lambda: seat.app.chat_model == MODEL)
        await seat.press("tab")
        seat.app.screen.query_one("#prompt").focus()
        await seat.type("hi")
        await seat.press("enter")
        await seat.until(lambda: [request.model for request in seat.daemon.chat.requests] == [MODEL])


async def test_settings_that_are_closed_stay_as_they_were(office: Office) -> None:
    async with office.seat(five_nodes(), (80, 40)) as seat:
        await seat.press("f2", "ctrl+o")
        await seat.type("Never said")
        await seat.press("escape")
        assert isinstance(seat.app.screen, ChatScreen)
        assert seat.app.screen._conversation.settings == Settings()


async def test_ctrl_j_begins_a_new_line_of_a_question(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.press("f2")
        await seat.type("one\ntwo")
        await seat.press("enter")
        await seat.until(lambda: bool(seat.daemon.chat.requests))
        assert seat.daemon.chat.requests[0].messages[-1].content == "one\ntwo"
