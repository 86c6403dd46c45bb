"""One node of gossip, driven by hand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from peerinfer.gossip.effects import Effect, Effects
from peerinfer.gossip.envelope import read_envelope, seal
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.machine import (
    Gossip,
)
from peerinfer.gossip.messages import SnapshotSealed
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.gossip.snapshot_codec import encode_snapshot
from peerinfer.net.effects import SendTo

MESH = "aa" * 16
TICK_S = 0.25


def node_id(number: int) -> str:
    return f"{number:032x}"


ME, X, B = (node_id(number) for number in (0, 1, 2))


def sign_as(node: str, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=node.encode()).digest()


def payload_of(name: str, free: int = 4) -> bytes:
    return encode_snapshot(Snapshot(name, "1", 8, free))


def sealed(node: str, incarnation: int, sequence: int, payload: bytes | None = None) -> SnapshotSealed:
    body = payload_of(node[-4:]) if payload is None else payload
    data = seal(MESH, node, incarnation, sequence, payload=body, sign=lambda message: sign_as(node, message))
    return SnapshotSealed(data)


class Node:
    """One machine among `n` members, of whom all others are linked with it."""

    def __init__(self, n: int = 3, me: str = ME, incarnation: int = 1) -> None:
        self.now = 50.0
        self.me = me
        self.members = {node_id(number) for number in range(n)}
        self.peers = self.members - {me}
        self.free = 4
        self.gossip = Gossip(
            me,
            MESH,
            incarnation,
            sign=lambda message: sign_as(me, message),
            verify=self.check,
            compose=lambda: payload_of("me", self.free),
            chance=random.Random(1),
            now=self.now,
        )
        self.look()

    def check(self, node: str, message: bytes, signature: bytes) -> bool:
        return node in self.members and sign_as(node, message) == signature

    def look(self) -> None:
        assert self.gossip.see(self.peers, self.members, self.now) == ()

    def listen(self, seconds: float, hearing: Sequence[str] = ()) -> list[tuple[float, Effect]]:
        """Ticks for so long; gives the effects with their times."""
        done: list[tuple[float, Effect]] = []
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for node in hearing:
                assert self.gossip.heard(node, 1, self.now) == ()
            done += [(self.now, effect) for effect in self.gossip.tick(self.now)]
        return done

    def receive(self, sender: str, message: object) -> Effects:
        return self.gossip.receive(sender, message, self.now)

    def state(self, node: str) -> Liveness:
        return self.gossip.liveness(node, self.now)


def sends(effects: Sequence[Effect], kind: type[object]) -> list[SendTo]:
    return [effect for effect in effects if isinstance(effect, SendTo) and isinstance(effect.message, kind)]


def own_mark(effects: Sequence[Effect]) -> tuple[int, int]:
    message = sends(effects, SnapshotSealed)[0].message
    assert isinstance(message, SnapshotSealed)
    return read_envelope(message.envelope).mark
