"""The models by their keys: loading, unloading, pulling, deleting, and the plan that says why."""

from __future__ import annotations

from dataclasses import replace

from peerinfer.control.events import SnapshotReceived
from peerinfer.control.state import ModelFile
from peerinfer.errors import StageLost
from tests.api.fakes import MODEL
from tests.tui.conftest import Office
from tests.tui.scenes import five_nodes, one_node
from tui.screens.chat import ChatScreen
from tui.screens.models import ModelsScreen


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
        await seat.sees(f"Unload {MODEL} on all machines?")
        await seat.press("y")
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
        await seat.sees("Stop pulling?")
        await seat.press("y")
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


async def test_one_of_the_catalogue_is_chosen_and_what_does_not_fit_says_so(office: Office) -> None:
    async with office.seat(one_node(), (120, 40)) as seat:
        await seat.press("f3", "p")
        await seat.sees("big:2b", "fits", "huge:70b", "needs 879.0 GB more", "For a hall of machines.")
        await seat.press("tab", "down", "enter")
        await seat.until(lambda: seat.daemon.node.pulls == ["big:2b"])


async def test_r_asks_anew_what_there_is(office: Office) -> None:
    async with office.seat(one_node(), (120, 40)) as seat:
        await seat.press("f3")
        await seat.sees(MODEL, "torn")
        before = len(seat.daemon.node.plans)
        await seat.press("r")
        await seat.until(lambda: len(seat.daemon.node.plans) > before)


async def test_a_load_is_taken_by_ctrl_s_and_wrong_numbers_are_told(office: Office) -> None:
    async with office.seat(one_node(), (100, 40)) as seat:
        await seat.press("f3")
        await seat.sees(MODEL)
        await seat.press("l")
        await seat.type("0")
        await seat.press("ctrl+s")
        await seat.sees("0 is not a whole number from 1.")
        await seat.press("backspace", "ctrl+s")
        await seat.until(lambda: [wish.context for wish in seat.daemon.node.loads] == [0])


async def test_the_model_that_is_pointed_at_stays_so_when_others_come(office: Office) -> None:
    async with office.seat(one_node(), (120, 40)) as seat:
        await seat.press("f3")
        await seat.sees(MODEL, "qwen3:4b")
        await seat.press("down", "down")
        screen = seat.app.screen
        assert isinstance(screen, ModelsScreen)
        await seat.until(lambda: screen.pointed is not None and screen.pointed.name == "qwen3:4b")
        member = one_node().members[0]
        assert member.report is not None
        more = (ModelFile("aaa:1b", "0" * 64, 5), *member.report.models)
        seat.daemon.tell(SnapshotReceived(member.id, replace(member.report, models=more)))
        await seat.sees("aaa:1b")
        assert screen.pointed is not None
        assert screen.pointed.name == "qwen3:4b"


async def test_leaving_says_that_a_pull_ends(office: Office) -> None:
    async with office.seat(one_node(), (100, 40)) as seat:
        seat.daemon.node.slow_load = True
        await seat.press("f3", "p")
        await seat.type("big")
        await seat.press("enter")
        await seat.sees("Pulling big.gguf")
        await seat.press("f1", "q")
        await seat.sees("A model is being pulled here")
