"""Each key, pressed as a person would, over a daemon in memory: what it opens, asks and has the daemon do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peerinfer.api.actions import Asking
from peerinfer.control.events import LeaderChanged, NeighboursChanged
from peerinfer.control.state import Instance, InstanceState, Neighbour
from tests.tui.conftest import Office, Seat
from tests.tui.scenes import DESK, LAP, MAC, OLD, five_nodes, one_node
from tests.tui.test_looks import READABLE, contrast, styles
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
    async with office.seat(replace(one_node(), neighbours=()), (120, 40)) as seat:
        await seat.press("j")
        await seat.sees("No mesh nearby invites")
        await seat.type("482-913")
        await seat.press("enter")
        await seat.sees("Choose a mesh above")
        await seat.type(" 10.0.0.7:41")
        await seat.press("enter")
        await seat.sees("now in the mesh of desk")
        assert seat.daemon.node.joined[-1].host == "10.0.0.7:41"
        await seat.press("j")
        seat.daemon.tell(NeighboursChanged((Neighbour("10.0.0.9:8643", pairing=True, pairing_port=5),)))
        await seat.sees("10.0.0.9:8643")
        inviting, silent = Neighbour("10.0.0.9:8643", True, 5), Neighbour("10.0.0.3:8643", False)
        seat.daemon.tell(NeighboursChanged((inviting, silent)))
        await seat.sees("Inviting nearby: (1 more does not invite now)")
        seat.daemon.tell(NeighboursChanged((inviting, silent, Neighbour("10.0.0.4:8643", False))))
        await seat.sees("Inviting nearby: (2 more do not invite now)")


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


async def test_who_knows_the_digits_is_let_in_or_not_by_y_and_n(office: Office) -> None:
    stranger, known = Asking("d1" * 16, "stranger\u202e"), Asking("d2" * 16, "lap")
    async with office.seat(one_node()) as seat:
        seat.daemon.node.asking = [stranger, known]
        await seat.press("i")
        await seat.sees("stranger (d1d1d1d1) knows", "Let it in?")
        assert seat.daemon.node.confirm
        await seat.press("n")
        await seat.sees("stranger was not let in", "lap (d2d2d2d2) knows")
        await seat.press("y")
        await seat.misses("Let it in?")
        assert seat.daemon.node.answers == [(stranger.node, False), (known.node, True)]
        seat.daemon.node.joiner.set()
        await seat.sees("lap is in the mesh.")


async def test_who_gives_up_is_asked_about_no_longer(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        seat.daemon.node.asking = [Asking("d1" * 16, "lap"), None]
        await seat.press("i")
        await seat.sees("lap asks no longer.")
        await seat.misses("Let it in?")
        await seat.press("y")
        assert not seat.daemon.node.answers


async def test_the_link_of_an_invitation_is_copied(office: Office) -> None:
    async with office.seat(one_node()) as seat:
        await seat.press("i")
        await seat.sees("peerinfer join 482-913")
        await seat.press("c")
        assert seat.app.clipboard.startswith("peerinfer://join?at=127.0.0.1:9999&mesh=")


async def test_c_on_the_mesh_chats_with_the_model_that_is_looked_at(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.sees("qwen3:4b ready")
        await seat.press("c")
        await seat.until(lambda: isinstance(seat.app.screen, ChatScreen) and seat.app.chat_model == "qwen3:4b")


async def test_x_removes_from_the_page_of_a_node_too(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.sees("kitchen-l")
        await seat.press("right", "enter")
        await seat.sees("link to   ")
        await seat.press("x")
        await seat.sees("Remove kitchen-laptop from the mesh?")
        await seat.press("escape")
        await seat.sees("link to   ")


async def test_keys_of_screens_do_nothing_under_a_dialog(office: Office) -> None:
    async with office.seat(five_nodes()) as seat:
        await seat.press("q")
        await seat.sees("keep running?")
        await seat.press("f2", "i", "j")
        await seat.sees("keep running?")
        await seat.press("escape")
        await seat.until(lambda: isinstance(seat.app.screen, MeshScreen))


async def test_the_mesh_that_was_chosen_stays_chosen_while_others_come_and_go(office: Office) -> None:
    near, far = Neighbour("192.168.1.30:8643", True, 7), Neighbour("10.0.0.9:8643", True, 5)
    async with office.seat(replace(one_node(), neighbours=(near,)), (120, 40)) as seat:
        await seat.press("j")
        await seat.sees("192.168.1.30:8643")
        await seat.type("482-913")
        seat.daemon.tell(NeighboursChanged((far, near)))
        await seat.sees("10.0.0.9:8643")
        seat.daemon.tell(NeighboursChanged((far,)))
        await seat.misses("192.168.1.30:8643")
        await seat.press("enter")
        await seat.sees("Choose a mesh above")
        seat.daemon.tell(NeighboursChanged((far, near)))
        await seat.sees("192.168.1.30:8643")
        await seat.press("shift+tab", "down", "down", "enter", "enter")
        await seat.sees("now in the mesh of desk")
        assert seat.daemon.node.joined[-1].host == "192.168.1.30:7"


async def test_what_ends_under_another_dialog_leaves_that_one_alone(office: Office) -> None:
    async with office.seat(one_node(), (120, 40)) as seat:
        await seat.press("i")
        await seat.sees("peerinfer join 482-913")
        await seat.press("ctrl+q")
        await seat.sees("keep running?")
        seat.daemon.node.joiner.set()
        await seat.sees("lap is in the mesh.", "keep running?")
        await seat.press("escape")
        await seat.misses("keep running?")
        await seat.misses("Invite a machine")
        assert isinstance(seat.app.screen, MeshScreen)


async def test_the_log_is_written_anew_in_another_theme(office: Office) -> None:
    async with office.seat(five_nodes(), (120, 40)) as seat:
        seat.daemon.tell(LeaderChanged(None, None))
        await seat.sees("Nobody leads the mesh.")
        await seat.press("t")
        await seat.pilot.pause(0.1)
        lines = [line for line in styles(seat) if "Nobody leads the mesh." in line[0]]
        assert len(lines) == 1
        assert contrast(*lines[0][1:]) >= READABLE
