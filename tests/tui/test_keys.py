"""Each key, pressed as a person would, over a daemon in memory: what it opens, asks and has the daemon do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peerinfer.control.events import InstancesChanged, MemberChanged, NeighboursChanged
from peerinfer.control.state import Instance, InstanceState, Liveness, Neighbour
from peerinfer.errors import StageLost
from tests.api.fakes import MODEL, Script
from tests.tui.conftest import Office, Seat
from tests.tui.scenes import DESK, LAP, MAC, OLD, five_nodes, one_node
from tui.chat.conversation import Settings
from tui.screens.chat import ChatScreen
from tui.screens.mesh import MeshScreen
from tui.screens.models import ModelsScreen
from tui.widgets.graph import MeshGraph


@pytest.mark.parametrize(
    ("keys", "screen"),
    [
        ("f2", ChatScreen),
        ("2", ChatScreen),
        ("f3", ModelsScreen),
        ("3", ModelsScreen),
        ("f1", MeshScreen),
        ("1", MeshScreen),
    ],
)
async def test_function_keys_and_digits_lead_to_the_screens(office: Office, keys: str, screen: type[object]) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.press(keys)
        await seat.until(lambda: isinstance(seat.app.screen, screen))


async def test_arrows_point_at_cards_and_enter_tells_all_of_a_node(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        graph = seat.app.screen.query_one(MeshGraph)
        await seat.until(lambda: graph.pointed == DESK)
        await seat.press("right", "right")
        assert graph.pointed == MAC
        await seat.press("down")
        assert graph.pointed == OLD
        await seat.press("up", "left")
        await seat.press("enter")
        await seat.sees("id        ", "link to   ")
        await seat.press("escape")
        await seat.misses("link to   ")


async def test_a_click_points_and_a_second_one_opens(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        graph = seat.app.screen.query_one(MeshGraph)
        await seat.until(lambda: bool(graph.pointed))
        await seat.pilot.click(MeshGraph, offset=(35, 1))
        assert graph.pointed == LAP
        await seat.pilot.click(MeshGraph, offset=(35, 1), times=2)
        await seat.sees("on battery, charged 54 %")


async def test_m_looks_at_the_next_model(office: Office) -> None:
    state = five_nodes()
    second = Instance(
        "9" * 32,
        "gemma3:1b",
        "c" * 64,
        state.instances[0].epoch,
        InstanceState.LOADING,
        state.instances[0].stages[:1],
        4096,
        4,
    )
    async with office.seat(replace(state, instances=(*state.instances, second))) as seat:
        await seat.sees("qwen3:4b ready")
        await seat.press("m")
        await seat.sees("gemma3:1b loading")
        await seat.press("m")
        await seat.sees("qwen3:4b ready")


async def test_x_removes_a_node_only_after_yes(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        asked: list[str] = []

        async def remove(node: str) -> dict[str, object]:
            asked.append(node)
            return {"node": node, "name": "kitchen-laptop"}

        seat.daemon.node.remove = remove  # type: ignore[method-assign]
        await seat.sees("kitchen-l")
        await seat.press("right", "x")
        await seat.sees("Remove kitchen-laptop from the mesh?")
        await seat.press("n")
        await seat.misses("Remove kitchen-laptop")
        assert not asked
        await seat.press("x")
        await seat.sees("Remove kitchen-laptop from the mesh?")
        await seat.press("y")
        await seat.until(lambda: asked == [LAP])


async def test_x_on_this_machine_leaves_the_mesh_only_after_yes(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.sees("desk")
        await seat.press("x")
        await seat.sees("Leave the mesh with this machine?")
        await seat.press("y")
        await seat.sees("This machine has left")


async def test_i_shows_digits_and_a_code_and_closing_closes_the_window(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        await seat.press("i")
        await seat.sees("peerinfer join 482-913", "more seconds", "█▀▀▀▀▀█")
        assert seat.daemon.node.window_open
        await seat.press("escape")
        await seat.until(lambda: not seat.daemon.node.window_open)


async def test_who_joins_by_an_invitation_is_told(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        await seat.press("i")
        await seat.sees("peerinfer join 482-913")
        seat.daemon.node.joiner.set()
        await seat.sees("lap is in the mesh.")


async def test_an_invitation_that_expired_can_be_opened_again(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        seat.daemon.node.invite_expires = True
        await seat.press("i")
        await seat.sees("Nobody joined within 120 seconds", "Press i to invite again")
        seat.daemon.node.invite_expires = False
        await seat.press("i")
        await seat.sees("peerinfer join 482-913")


async def test_j_joins_a_mesh_nearby_by_its_digits(office: Office) -> None:
    async with office.seat(one_node(), (120, 40)) as seat:
        await seat.press("j")
        await seat.sees("Inviting nearby:", "192.168.1.20:8643", "trust")
        await seat.type("111-111")
        await seat.press("enter")
        await seat.sees("The six digits do not match.")
        await seat.press(*["backspace"] * 7)
        await seat.type("482-913")
        await seat.press("enter")
        await seat.sees("now in the mesh of desk")
        assert [(wish.code, wish.host) for wish in seat.daemon.node.joined] == [("482-913", "192.168.1.20:41875")]


async def test_meshes_that_come_while_one_joins_are_listed(office: Office) -> None:
    async with office.seat(replace(one_node(), neighbours=())) as seat:
        await seat.press("j")
        await seat.sees("No mesh nearby invites")
        await seat.type("482-913")
        await seat.press("enter")
        await seat.sees("Type the digits of a mesh that is listed")
        seat.daemon.tell(NeighboursChanged((Neighbour("10.0.0.9:8643", pairing=True, pairing_port=5),)))
        await seat.sees("10.0.0.9:8643")


async def test_t_changes_the_theme_and_question_mark_shows_the_keys(office: Office) -> None:
    async with office.seat(one_node(), (120, 40)) as seat:
        before = seat.app.theme
        await seat.press("t")
        assert seat.app.theme != before
        await seat.press("t")
        assert seat.app.theme == before
        await seat.press("question_mark")
        await seat.until(lambda: bool(seat.app.screen.query("HelpPanel")))
        await seat.press("question_mark")
        await seat.until(lambda: not seat.app.screen.query("HelpPanel"))


async def test_the_palette_finds_what_keys_do(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        await seat.press("ctrl+p")
        await seat.type("invite")
        await seat.sees("Invite a machine")
        await seat.press("down", "enter")
        await seat.sees("peerinfer join 482-913")


@pytest.mark.parametrize("answer", ["k", "s"])
async def test_q_asks_whether_the_node_stays(office: Office, answer: str) -> None:
    async with office.seat(one_node()) as seat:
        await seat.press("q")
        await seat.sees("shall the node of this machine keep running?")
        await seat.press("escape")
        await seat.misses("keep running?")
        await seat.press("ctrl+q")
        await seat.sees("keep running?")
        stopping = asyncio.create_task(_stop_when_asked(seat))
        await seat.press(answer)
        await seat.until(lambda: not seat.app.is_running)
        stopping.cancel()
        assert seat.daemon.node.stopping.is_set() == (answer == "s")


async def _stop_when_asked(seat: Seat) -> None:
    await seat.daemon.node.stopping.wait()
    await seat.daemon.stop()


# ---- chat


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
        await seat.sees("One, two,", "bedroom-pc was lost under it.", "asked again")
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


# ---- models


async def test_l_loads_with_what_was_typed_and_shows_progress(office: Office) -> None:
    async with office.seat(one_node(), (100, 40)) as seat:
        seat.daemon.node.slow_load = True
        seat.daemon.node.loaded.clear()
        await seat.press("f3")
        await seat.sees(MODEL)
        await seat.press("l")
        await seat.sees(f"Load {MODEL}")
        await seat.type("512")
        await seat.press("tab", "tab")
        await seat.type("2")
        await seat.press("enter")
        await seat.sees("writing shards", "50 %")
        wish = seat.daemon.node.loads[0]
        assert (wish.model, wish.context, wish.slots, wish.min_nodes, wish.policy) == (MODEL, 512, 0, 2, "latency")
        seat.daemon.node.release.set()
        await seat.misses("writing shards")


async def test_a_load_that_fails_says_why(office: Office) -> None:
    async with office.seat(one_node(), (100, 40)) as seat:
        seat.daemon.node.load_error = StageLost("Its node went away.")
        await seat.press("f3")
        await seat.sees(MODEL)
        await seat.press("l")
        await seat.press("enter")
        await seat.sees("Its node went away.")


async def test_u_unloads_what_is_loaded(office: Office) -> None:
    state = five_nodes()
    placed = replace(state.instances[0], model=MODEL, digest="ab" * 32)
    async with office.seat(replace(state, instances=(placed,)), (100, 40)) as seat:
        await seat.press("f3")
        await seat.sees(MODEL, "ready")
        await seat.press("u")
        await seat.until(lambda: MODEL not in seat.daemon.node.loaded)
        await seat.press("down", "u")
        await seat.sees("It is not loaded.")


async def test_p_pulls_and_escape_stops_it(office: Office) -> None:
    async with office.seat(one_node(), (100, 40)) as seat:
        seat.daemon.node.slow_load = True
        await seat.press("f3", "p")
        await seat.sees("Fetch a model")
        await seat.type("big")
        await seat.press("enter")
        await seat.sees("Pulling big.gguf", "25 %", "0.5/2.0 GB")
        await seat.press("escape")
        await seat.until(lambda: seat.daemon.node.given_up == ["big"])
        await seat.misses("Pulling big.gguf")


async def test_d_deletes_only_after_yes(office: Office) -> None:
    async with office.seat(one_node(), (100, 40)) as seat:
        seat.daemon.node.loaded.clear()
        await seat.press("f3")
        await seat.sees(MODEL)
        await seat.press("d")
        await seat.sees(f"Delete {MODEL} from this machine?")
        await seat.press("n")
        await seat.misses("Delete tiny-model")
        await seat.press("d", "y")
        await seat.sees("2.0 GB are free again.")


async def test_c_chats_with_the_model_that_is_pointed_at(office: Office) -> None:
    async with office.seat(five_nodes(), (100, 40)) as seat:
        await seat.press("f3")
        await seat.sees(MODEL)
        await seat.press("c")
        await seat.until(lambda: isinstance(seat.app.screen, ChatScreen) and seat.app.chat_model == MODEL)


async def test_the_plan_of_a_model_is_shown_with_its_reasons(office: Office) -> None:
    async with office.seat(one_node(), (140, 40)) as seat:
        seat.daemon.node.plan_answer = {
            "infeasible": {
                "reason": "It needs 3.0 GB more.",
                "short_bytes": 3_000_000_000,
                "try": ["Take a smaller one."],
            }
        }
        await seat.press("f3")
        await seat.sees("no: 3.0 GB short", "It needs 3.0 GB more.", "Take a smaller one.")
