"""A leader brought to where a test begins, and what it says."""

from __future__ import annotations

from dataclasses import replace

from peerinfer.control.effects import Effects
from peerinfer.control.intents import IntentBook
from peerinfer.control.leader import JOIN_S, Leader
from peerinfer.control.members import Member
from peerinfer.control.messages import (
    DropStage,
    LoadRequest,
    LoadStage,
    RequestReply,
    StageReport,
    StagesHeld,
)
from peerinfer.control.state import Instance, InstanceState, StagePlace
from peerinfer.election.ballot import Ballot
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch
from tests.control.cluster import GB, MESH, MODEL, FakeSigner

A, B = "a" * 32, "b" * 32
BALLOT = Ballot(4, A)
TOLD = Snapshot("n", "1", 8 * GB, 8 * GB, engines=("llama.cpp",), models=(MODEL,))
LOAD = LoadRequest("r1", "tiny", MODEL.digest, 64, 1, "latency", 1)
START_S = JOIN_S + 1.0


def members(*nodes: str, told: Snapshot | None = TOLD, state: Liveness = Liveness.ALIVE) -> tuple[Member, ...]:
    return tuple(Member(node, node[:1], state if node != A else Liveness.ALIVE, told) for node in nodes)


def leading(*nodes: str, told: Snapshot = TOLD) -> Leader:
    """A leads, and all have said that they hold nothing."""
    leader = Leader(A, IntentBook(A, MESH, FakeSigner(A)))
    leader.lead(BALLOT, 0.0)
    leader.see(members(*nodes, told=told), frozenset(nodes), START_S)
    for node in nodes:
        leader.receive(node, StagesHeld(BALLOT, ()), START_S)
    leader.tick(START_S)
    return leader


def replies(effects: Effects) -> list[RequestReply]:
    sent = [effect.message for effect in effects if isinstance(effect, SendTo)]
    return [message for message in sent if isinstance(message, RequestReply)]


def commands(effects: Effects) -> list[object]:
    sent = [effect.message for effect in effects if isinstance(effect, SendTo)]
    return [message for message in sent if isinstance(message, (LoadStage, DropStage))]


def instance(epoch: Epoch = Epoch(3, B, 1), **changes: object) -> Instance:  # noqa: B008  (a value)
    stages = (StagePlace(A, "llama.cpp", 0, 15), StagePlace(B, "llama.cpp", 15, 30))
    whole = Instance("i" * 32, "tiny", MODEL.digest, epoch, InstanceState.READY, stages, 64, 1)
    return replace(whole, **changes)


def loaded(leader: Leader, request: LoadRequest = LOAD, now: float = START_S) -> Instance:
    (command,) = commands(leader.receive(B, request, now))
    assert isinstance(command, LoadStage)
    placed = command.instance
    leader.receive(placed.stages[0].node, StageReport(placed.id, placed.epoch, 0, "ready", "", 1.0), now)
    return placed


def loaded_instance(effects: Effects) -> Instance:
    (command,) = commands(effects)
    assert isinstance(command, LoadStage)
    return command.instance
