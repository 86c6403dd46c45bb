"""An invitation that asks its person, over real sockets on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerinfer.errors import InviteExpired, PairingBusy, PairingError
from peerinfer.identity.pairing import SESSION_S, WINDOW_S, Ending
from peerinfer.identity.storage import Identity
from peerinfer.net import joining
from peerinfer.net.joining import JoinResult, join
from peerinfer.net.pairing import PairingHost, Question
from tests.net.test_pairing import HERE, HandClock


class Host:
    """An open invitation, and what it asked."""

    def __init__(self, door: PairingHost, clock: HandClock) -> None:
        self.door = door
        self.clock = clock
        self.asked: asyncio.Queue[Question | None] = asyncio.Queue()
        door.on_question(self.asked.put_nowait)

    def join(self, guest: Identity) -> asyncio.Task[JoinResult]:
        return asyncio.create_task(join(guest, HERE, self.door.port, self.door.code))


@pytest.fixture
def desk(tmp_path: Path) -> Identity:
    return Identity.open(tmp_path / "desk", "desk")


@pytest.fixture
def lap(tmp_path: Path) -> Identity:
    return Identity.open(tmp_path / "lap", "the\x07 laptop")


@pytest.fixture
async def host(desk: Identity) -> AsyncIterator[Host]:
    clock = HandClock()
    door = await PairingHost.open(desk, HERE, clock=clock, confirm=True)
    yield Host(door, clock)
    await door.close()


async def test_a_yes_lets_in(desk: Identity, lap: Identity, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ASKED_S", 0.0)
    waits = asyncio.Event()
    joined = asyncio.create_task(join(lap, HERE, host.door.port, host.door.code, asked=waits.set))
    question = await host.asked.get()
    assert question == Question(lap.node_id, "the laptop")
    await waits.wait()
    assert lap.is_alone
    (limit,) = host.door._limits.values()
    assert (limit.when() or 0.0) > asyncio.get_running_loop().time() + WINDOW_S - SESSION_S
    assert host.door.answer(lap.node_id, True) == question
    assert (await joined).mesh_id == lap.mesh_id == desk.mesh_id
    outcome = await host.door.finished()
    assert (outcome.ending, outcome.node_id, outcome.name) == (Ending.JOINED, lap.node_id, "the laptop")
    assert host.asked.empty()


async def test_a_no_leaves_the_window_to_the_next(desk: Identity, lap: Identity, host: Host, tmp_path: Path) -> None:
    refused = host.join(lap)
    await host.asked.get()
    host.door.answer(lap.node_id, False)
    with pytest.raises(PairingError, match="owner did not let this one in"):
        await refused
    assert lap.is_alone
    assert (host.door.outcome, host.door.tries_left, host.door.question) == (None, 2, None)
    other = Identity.open(tmp_path / "other")
    joined = host.join(other)
    assert await host.asked.get() == Question(other.node_id, other.name)
    host.door.answer(other.node_id, True)
    await joined
    assert set(desk.roster.members) == {desk.node_id, other.node_id}


async def test_a_joiner_that_gives_up_leaves_the_window_usable(desk: Identity, lap: Identity, host: Host) -> None:
    leaving = host.join(lap)
    await host.asked.get()
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    assert await host.asked.get() is None
    with pytest.raises(PairingError, match="given up"):
        host.door.answer(lap.node_id, True)
    assert desk.is_alone
    joined = host.join(lap)
    await host.asked.get()
    host.door.answer(lap.node_id, True)
    assert (await joined).mesh_id == desk.mesh_id


async def test_only_who_waits_can_be_answered_and_others_are_busy(lap: Identity, host: Host, tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="does not wait"):
        host.door.answer(lap.node_id, True)
    waiting = host.join(lap)
    await host.asked.get()
    other = Identity.open(tmp_path / "other")
    with pytest.raises(PairingBusy):
        await host.join(other)
    with pytest.raises(PairingError, match="does not wait"):
        host.door.answer(other.node_id, True)
    host.door.answer(lap.node_id, True)
    await waiting


async def test_a_window_that_expires_tells_both(lap: Identity, host: Host) -> None:
    waiting = host.join(lap)
    await host.asked.get()
    host.clock.now = host.door.expires_at
    with pytest.raises(InviteExpired, match="has expired"):
        await waiting
    assert await host.asked.get() is None
    assert (await host.door.finished()).ending is Ending.EXPIRED


async def test_a_window_that_is_closed_tells_who_waits(lap: Identity, host: Host) -> None:
    waiting = host.join(lap)
    await host.asked.get()
    await host.door.close()
    with pytest.raises(InviteExpired):
        await waiting


async def test_a_joiner_waits_for_a_person_no_longer_than_a_window(
    lap: Identity, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "WINDOW_S", 0.2)
    with pytest.raises(PairingError, match=r"Nobody at .* said yes in time"):
        await host.join(lap)
    assert lap.is_alone


async def test_a_yes_that_the_mesh_cannot_keep_is_told_to_both(desk: Identity, lap: Identity, host: Host) -> None:
    desk.admit(lap.request_certificate(desk.mesh_id))
    desk.remove(lap.node_id)
    waiting = host.join(lap)
    await host.asked.get()
    with pytest.raises(PairingError, match="cannot be let in: "):
        host.door.answer(lap.node_id, True)
    with pytest.raises(PairingError, match="peerinfer leave"):
        await waiting
    assert host.door.outcome is None


async def test_a_question_that_stands_is_told_to_who_comes_later(lap: Identity, host: Host) -> None:
    waiting = host.join(lap)
    question = await host.asked.get()
    told: list[Question | None] = []
    host.door.on_question(told.append)
    assert told == [question]
    host.door.answer(lap.node_id, True)
    await waiting
