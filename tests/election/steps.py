"""A node of the election, brought to where a test begins."""

from __future__ import annotations

import random

from peerinfer.election.ballot import NO_BALLOT, Ballot, Standing
from peerinfer.election.effects import Effects, SaveBallot
from peerinfer.election.machine import (
    JITTER_S,
    START_S,
    Election,
)
from peerinfer.election.messages import (
    Grant,
    LeaderHeartbeat,
    WouldGrant,
)
from peerinfer.net.effects import SendTo

A, B, C, D = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
READY_S = START_S + JITTER_S
WELL = Standing(3)


def election(node: str = A, promise: Ballot = NO_BALLOT, seen: tuple[str, ...] = (A, B, C)) -> Election:
    machine = Election(node, promise, random.Random(7), 0.0)
    machine.see(seen, 0.0, reach=len(seen))
    return machine


def leading(seen: tuple[str, ...] = (A, B, C), now: float = READY_S) -> tuple[Election, Ballot]:
    """A leads B and C."""
    machine = election(seen=seen)
    ballot = Ballot(1, A)
    machine.tick(now)
    for other in sorted(set(seen) - {A}):
        machine.receive(other, WouldGrant(ballot), now)
    for other in sorted(set(seen) - {A}):
        machine.receive(other, Grant(ballot, WELL), now)
    assert machine.leader == A
    return machine, ballot


def following() -> Election:
    """A obeys B under its ballot 5."""
    machine = election()
    machine.receive(B, LeaderHeartbeat(Ballot(5, B), 2), 0.0)
    assert (machine.leader, machine.ballot) == (B, Ballot(5, B))
    return machine


def sent(effects: Effects) -> list[tuple[str, object]]:
    return [(effect.node, effect.message) for effect in effects if isinstance(effect, SendTo)]


def saved(effects: Effects) -> list[Ballot]:
    return [effect.ballot for effect in effects if isinstance(effect, SaveBallot)]
