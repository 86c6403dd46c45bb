"""The door of gossip: what it sends and when, and what it takes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from peerinfer.errors import HomeError, LinkDown
from peerinfer.gossip import storage as gossip_storage
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.machine import PUSH_EVERY_S, PUSH_GAP_S
from peerinfer.gossip.messages import SnapshotSealed
from peerinfer.gossip.service import GossipService
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.gossip.storage import Incarnation
from peerinfer.identity.keys import SigningKey, verify

MESH = "aa" * 16


@dataclass
class Facts:
    incarnation: int
    last_heard: float


class Wires:
    """Links in memory; a peer that is not joined is down."""

    def __init__(self, node: str, mesh: dict[str, Wires]) -> None:
        self.node = node
        self.mesh = mesh
        self.joined: set[str] = set()
        self.heard_at = 0.0
        self.sent: list[tuple[str, Any]] = []
        self.handlers: dict[type[Any], Callable[[str, Any], None]] = {}
        self.peer_handler: Callable[[str, bool], None]
        mesh[node] = self

    def send(self, to: str, message: Any) -> None:
        if to not in self.joined:
            raise LinkDown("no link")
        self.sent.append((to, message))
        self.mesh[to].hear(self.node, message)

    def hear(self, sender: str, message: Any) -> None:
        self.handlers[type(message)](sender, message)

    def on(self, kind: type[Any], handler: Callable[[str, Any], None]) -> None:
        self.handlers[kind] = handler

    def on_peer(self, handler: Callable[[str, bool], None]) -> None:
        self.peer_handler = handler

    def peers(self) -> dict[str, Facts]:
        return {node: Facts(1, self.heard_at) for node in self.joined}


class Identity:
    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.node_id = key.node_id
        self.mesh_id = MESH

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


class Mesh:
    """Two nodes that gossip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = [SigningKey.from_raw(bytes([number]) * 32) for number in (1, 2)]
        self.boards: dict[str, Wires] = {}
        self.free = [100, 200]
        self.now = 1000.0
        self.services = [self.start(number) for number in (0, 1)]

    def start(self, number: int) -> GossipService:
        key = self.keys[number]
        wires = Wires(key.node_id, self.boards)
        counter = Incarnation(self.folder / f"incarnation-{number}")

        def compose() -> Snapshot:
            return Snapshot(f"n{number}", "1", 1000, self.free[number])

        return GossipService(
            Identity(key),
            self.check,
            counter,
            wires,
            compose,
            members=lambda: {key.node_id for key in self.keys},
            clock=lambda: self.now,
        )

    def check(self, node: str, message: bytes, signature: bytes) -> bool:
        keys = {key.node_id: key.public_key for key in self.keys}
        return node in keys and verify(keys[node], signature, message)

    def join(self) -> None:
        one, two = (self.boards[key.node_id] for key in self.keys)
        for wires, other in ((one, two), (two, one)):
            wires.joined.add(other.node)
            wires.peer_handler(other.node, True)

    def seen(self, at: int, of: int) -> Snapshot | None:
        entry = self.services[at].table.entry(self.keys[of].node_id)
        return entry.snapshot if entry else None


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


def test_a_new_link_brings_the_newest_snapshot(mesh: Mesh) -> None:
    for service in mesh.services:
        service.push()
    mesh.join()
    assert mesh.seen(at=0, of=1) == Snapshot("n1", "1", 1000, 200)
    assert mesh.seen(at=1, of=0) == Snapshot("n0", "1", 1000, 100)


def test_listeners_hear_of_what_is_new_and_of_nothing_else(mesh: Mesh) -> None:
    mesh.join()
    heard: list[tuple[str, int]] = []
    mesh.services[1].on_snapshot(lambda node, snapshot: heard.append((node, snapshot.memory_free_bytes)))
    mesh.services[0].push()
    mesh.free[0] = 50
    mesh.services[0].push()
    first = mesh.boards[mesh.keys[0].node_id].sent[0][1]
    mesh.boards[mesh.keys[1].node_id].hear("somebody", first)
    assert heard == [(mesh.keys[0].node_id, 100), (mesh.keys[0].node_id, 50)]


def test_a_forged_snapshot_is_dropped_and_harms_nobody(mesh: Mesh) -> None:
    mesh.join()
    mesh.boards[mesh.keys[1].node_id].hear(mesh.keys[0].node_id, SnapshotSealed(b"nonsense"))
    mesh.services[0].push()
    data = mesh.services[0].table.entry(mesh.keys[0].node_id)
    assert data is not None
    forged = data.envelope.data[:-1] + bytes([data.envelope.data[-1] ^ 1])
    mesh.services[1].table.keep_only([])
    mesh.boards[mesh.keys[1].node_id].hear(mesh.keys[0].node_id, SnapshotSealed(forged))
    assert mesh.seen(at=1, of=0) is None


def test_a_restarted_node_is_believed_again(mesh: Mesh) -> None:
    mesh.join()
    for _ in range(5):
        mesh.services[0].push()
    mesh.free[0] = 7
    mesh.services[0] = mesh.start(0)
    mesh.join()
    mesh.services[0].push()
    snapshot = mesh.seen(at=1, of=0)
    assert snapshot is not None
    assert snapshot.memory_free_bytes == 7


def test_a_node_that_lost_its_count_jumps_above_what_it_said_before(mesh: Mesh) -> None:
    for _ in range(3):
        mesh.services[0] = mesh.start(0)
    mesh.join()
    mesh.services[0].push()
    (mesh.folder / "incarnation-0").unlink()
    mesh.free[0] = 7
    mesh.services[0] = mesh.start(0)
    mesh.join()
    mesh.services[0].push()
    mesh.services[0].push()
    snapshot = mesh.seen(at=1, of=0)
    assert snapshot is not None
    assert snapshot.memory_free_bytes == 7


async def test_a_change_is_pushed_without_waiting_for_the_next_round(mesh: Mesh) -> None:
    mesh.join()
    pushed = asyncio.Event()
    running = asyncio.create_task(mesh.services[0].run())
    await asyncio.sleep(0)
    mesh.services[1].on_snapshot(lambda _node, _snapshot: pushed.set())
    mesh.now += 2 * PUSH_GAP_S
    mesh.free[0] = 7
    mesh.services[0].announce()
    await asyncio.wait_for(pushed.wait(), 60)
    running.cancel()
    assert mesh.now - 1000.0 < PUSH_EVERY_S


def test_who_is_heard_over_a_link_is_alive_until_it_says_farewell(mesh: Mesh) -> None:
    mesh.join()
    one, two = mesh.services
    other = mesh.keys[1].node_id
    for _ in range(4):
        mesh.now += 0.25
        mesh.boards[mesh.keys[0].node_id].heard_at = mesh.now
        one.tick()
    assert (one.liveness(other), one.was_heard(other), one.direct()) == (Liveness.ALIVE, True, frozenset({other}))
    two.farewell()
    assert one.liveness(other) is Liveness.GONE
    two.wake()
    assert one.liveness(other) is Liveness.GONE, "only a higher incarnation brings it back"


def test_an_incarnation_that_cannot_be_saved_is_not_told(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh.join()
    service = mesh.services[0]
    service.push()
    service.farewell()
    sent = len(mesh.boards[mesh.keys[0].node_id].sent)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gossip_storage, "write_private", full)
    for step in (service.wake, service.push):
        with pytest.raises(HomeError, match="cannot be written"):
            step()
    assert len(mesh.boards[mesh.keys[0].node_id].sent) == sent
    monkeypatch.undo()
    service.push()
    snapshot = mesh.services[1].table.entry(mesh.keys[0].node_id)
    assert snapshot is not None
    assert snapshot.envelope.incarnation == 2


def test_the_incarnation_grows_over_starts_and_survives_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "incarnation"
    assert [Incarnation(path).value for _ in range(3)] == [1, 2, 3]
    path.write_text("nonsense")
    counter = Incarnation(path)
    assert counter.value == 1
    counter.save(41)
    assert counter.value == 41
    counter.save(7)
    assert Incarnation(path).value == 42, "it never goes back"
