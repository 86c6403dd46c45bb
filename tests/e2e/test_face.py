"""The terminal face over three real nodes, by keys alone: pair, load, chat, lose a node while watching."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest

from peerinfer.api.client import ApiClient
from peerinfer.control.state import ClusterState, InstanceState, Liveness
from tests.bundled import bundled_model
from tests.e2e.daemons import Daemon, strangers
from tests.tui.conftest import Seat, opened
from tui.app import PeerinferApp
from tui.screens.chat import ChatScreen
from tui.widgets.message import Answer

pytestmark = pytest.mark.slow
WAIT_S = 120.0
QUESTION = "Tell a long story about a lighthouse keeper, in ten paragraphs."


@pytest.fixture
def nodes(tmp_path: Path) -> Generator[list[Daemon]]:
    with strangers(tmp_path, {"desk": [bundled_model()], "kitchen-laptop": (), "bedroom-pc": ()}) as made:
        yield made


class PatientSeat(Seat):
    """Real nodes take their time."""

    async def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not holds():
            assert time.monotonic() < end, self.screen
            await self.pilot.pause(0.05)


@contextlib.asynccontextmanager
async def seat(daemon: Daemon) -> AsyncGenerator[PatientSeat]:
    app = PeerinferApp(daemon.home)
    async with opened(app, (120, 40)) as pilot:
        sitting = PatientSeat(app, pilot, None)
        await sitting.sees("live")
        yield sitting


async def pair(host: Seat, guest: Seat, name: str) -> None:
    """An invitation on one screen, its link on the other, and a yes."""
    await host.press("i")
    await host.sees("more seconds")
    await host.press("c")
    await guest.press("j")
    await guest.sees("six digits")
    await guest.type(host.app.clipboard)
    await guest.press("enter")
    await host.sees(f"{name} (", "knows the")
    await host.press("y")
    await host.sees(f"{name} is in the mesh.")
    await guest.until(lambda: len(mesh_of(guest).members) == len(mesh_of(host).members))


def mesh_of(sitting: Seat) -> ClusterState:
    state = sitting.app.view.state
    assert state is not None
    return state


async def test_by_keys_from_three_lone_nodes_to_an_answer_that_outlives_one(nodes: list[Daemon]) -> None:
    desk, laptop, bedroom = nodes
    async with seat(desk) as host:
        for daemon in (laptop, bedroom):
            async with seat(daemon) as guest:
                await pair(host, guest, daemon.name)
        await host.until(lambda: [one.state for one in mesh_of(host).members] == [Liveness.ALIVE] * 3)
        await host.until(lambda: all(one.report for one in mesh_of(host).members) and bool(mesh_of(host).leader))
        await load_over_all(host)
        await host.press("c")
        await host.until(lambda: isinstance(host.app.screen, ChatScreen))
        await host.type(QUESTION)
        await host.press("enter")
        await host.until(lambda: words(host) > 20)
        before = said(host)
        bedroom.kill()
        await host.sees("The answer goes on.")
        assert said(host).startswith(before)
        await host.press("f1")
        await host.sees("bedroom-pc left; its layers")
        assert "bedroom-pc" not in [one.name for one in mesh_of(host).members if one.state is Liveness.ALIVE]
        await host.press("f2", "escape")
        await host.sees("stopped")
        await same_as_the_daemons(host, desk)


async def load_over_all(host: Seat) -> None:
    await host.press("f3")
    await host.sees("smollm2")
    await host.press("l")
    await host.sees("Split over at least")
    await host.press("tab", "tab")
    await host.type("3")
    await host.press("enter")
    await host.until(lambda: [one.state for one in mesh_of(host).instances] == [InstanceState.READY])
    assert len({place.node for place in mesh_of(host).instances[0].stages}) == 3


def said(host: Seat) -> str:
    answers = host.app.screen.query(Answer)
    return answers.last().text if answers else ""


def words(host: Seat) -> int:
    return len(said(host).split())


async def same_as_the_daemons(host: Seat, daemon: Daemon) -> None:
    """What the face folded, event by event through all of this, is what the daemon tells who asks anew."""
    end = time.monotonic() + WAIT_S
    while True:
        async with ApiClient(daemon.home) as client, contextlib.aclosing(client.events()) as events:
            told = await anext(events)
        if told == mesh_of(host):
            return
        assert time.monotonic() < end, (told, mesh_of(host))
        await host.pilot.pause(0.05)
