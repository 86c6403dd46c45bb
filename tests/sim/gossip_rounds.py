"""How fast one update is everywhere, and what gossip costs: the real machines over a lossy network, by a virtual clock.

A *round* is one period of anti-entropy (`COMPARE_EVERY_S` = 1 s of virtual time), the only unit in which the protocol
waits; messages need 1–20 ms. An update's rounds are the time from its announcement (so the wait for the next push
counts) until the last of the N tables has it, divided by the round and rounded up.

Nodes tick each 0.25 s, each at its own phase. Every message is lost with probability `loss`, heartbeats and answers
too, and a lost message is not sent again below, as TCP would. Signatures are a fast keyed hash in place of Ed25519.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from peerinfer.gossip.effects import Effects, SnapshotLearned
from peerinfer.gossip.machine import COMPARE_EVERY_S, Gossip
from peerinfer.gossip.messages import SnapshotSealed
from peerinfer.gossip.snapshot import Device, HeldModel, HeldStage, Snapshot
from peerinfer.gossip.snapshot_codec import encode_snapshot
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import encode

MESH: Final = "aa" * 16
TICK_S: Final = 0.25
HEARTBEAT_S: Final = 0.5
DELAY_S: Final = (0.001, 0.020)
"""Of a message: a home's Wi-Fi."""
WARM_S: Final = 12.0
"""Until the tables are full and the first pushes are over."""
PATIENCE_S: Final = 60.0
"""An update that takes longer counts as lost, which is an error."""
SEALED_EXTRA_BYTES: Final = len(encode(SnapshotSealed(b"x" * 1500))) - 1500


@dataclass(frozen=True, slots=True)
class Traffic:
    """What gossip sent in a span of time, over all nodes."""

    messages_per_s: float
    """Of one node, on average."""
    bytes_per_s: float
    """Of one node, on average: encoded messages, without TLS and TCP."""
    most_bytes_per_s: float
    """The same of the node that sent most."""


def portrait(number: int) -> Snapshot:
    """A snapshot as a real node tells: a GPU, six model files, two stages; 1.5 kB packed."""
    cuts = tuple(range(1, 32))
    models = tuple(
        HeldModel(
            f"a-model-of-some-length-{size}b-q4_k_m.gguf", f"{size:064x}", size * 10**9, 32, 10**8, 10**8, 10**8, 4096,
            131_072, cuts,
        )
        for size in (1, 3, 7, 8, 13, 30)
    )  # fmt: skip
    stages = tuple(HeldStage(f"{n:032x}", Epoch(5, "cd" * 16, n), n, "ready", 1.0, 6.5, 0.25, 48) for n in (0, 1))
    devices = (Device("cpu", "A processor of today", cores=8), Device("cuda", "A card", 24 * 10**9, 20 * 10**9))
    return Snapshot(f"node-{number}", "0.1.0", 32 * 10**9, 16 * 10**9, devices, False, ("llama.cpp",), models, stages)


class GossipNet:
    """`n` nodes, all linked with all. With `churn` each says something new at every push (2 s), else only if told."""

    def __init__(self, n: int, seed: int, *, loss: float = 0.05, churn: bool = False) -> None:
        self.now = 0.0
        self.nodes = [hashlib.sha256(f"node {number}".encode()).digest()[:16].hex() for number in range(n)]
        self.gossips: dict[str, Gossip] = {}
        self._chance = random.Random(seed)
        self._loss = loss
        self._churn = churn
        self._snapshots = {node: portrait(number) for number, node in enumerate(self.nodes)}
        self._sent = dict.fromkeys(self.nodes, 0)
        self._messages = 0
        self._queue: list[tuple[float, int, str, str, object]] = []
        self._count = 0
        self._news: Callable[[str, str], None] = lambda _node, _of: None
        for number, node in enumerate(self.nodes):
            self._start(node, random.Random(seed * 1000 + number))

    def update(self) -> float:
        """Has a random node change, waits until all know, and gives the seconds from the announcement until then."""
        origin = self._chance.choice(self.nodes)
        before = self.gossips[origin].table.seen(origin)
        missing = set(self.nodes)

        def news(node: str, of: str) -> None:
            if of == origin and self.gossips[node].table.seen(of) > before:
                missing.discard(node)

        self._news = news
        began = self.now
        self._change(origin)
        self.gossips[origin].announce()
        while missing:
            if self.now - began > PATIENCE_S:
                raise RuntimeError(f"An update did not reach {len(missing)} nodes in {PATIENCE_S:g} s.")
            self._step()
        return self.now - began

    def run(self, seconds: float) -> Traffic:
        """Lets time pass, and tells what was sent meanwhile."""
        end = self.now + seconds
        self._sent = dict.fromkeys(self.nodes, 0)
        self._messages = 0
        while self._queue[0][0] < end:
            self._step()
        n = len(self.nodes)
        sent = self._sent.values()
        return Traffic(self._messages / n / seconds, sum(sent) / n / seconds, max(sent) / seconds)

    def _start(self, node: str, chance: random.Random) -> None:
        def sign(data: bytes) -> bytes:
            return _seal(node, data)

        def compose() -> bytes:
            if self._churn:
                self._change(node)
            return encode_snapshot(self._snapshots[node])

        self.gossips[node] = Gossip(
            node, MESH, 1, sign=sign, verify=_check, compose=compose, chance=chance, now=self.now
        )
        self.gossips[node].see([peer for peer in self.nodes if peer != node], self.nodes, self.now)
        self._put(self._chance.uniform(0.0, TICK_S), node, "", None)

    def _change(self, node: str) -> None:
        snapshot = self._snapshots[node]
        self._snapshots[node] = replace(snapshot, memory_free_bytes=snapshot.memory_free_bytes + 4096)

    def _step(self) -> None:
        self.now, _, node, sender, message = heapq.heappop(self._queue)
        gossip = self.gossips[node]
        if message is not None:
            self._carry_out(node, gossip.receive(sender, message, self.now))
            return
        beats = HEARTBEAT_S / TICK_S
        for peer in self.nodes:
            if peer != node and self._chance.random() * beats < 1.0 - self._loss:
                gossip.heard(peer, 1, self.now)
        self._carry_out(node, gossip.tick(self.now))
        self._put(TICK_S, node, "", None)

    def _carry_out(self, node: str, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, SendTo):
                self._send(node, effect.node, effect.message)
            elif isinstance(effect, SnapshotLearned):
                self._news(node, effect.node)

    def _send(self, sender: str, to: str, message: object) -> None:
        is_sealed = isinstance(message, SnapshotSealed)
        self._sent[sender] += len(message.envelope) + SEALED_EXTRA_BYTES if is_sealed else len(encode(message))
        self._messages += 1
        if self._chance.random() >= self._loss:
            self._put(self._chance.uniform(*DELAY_S), to, sender, message)

    def _put(self, delay_s: float, node: str, sender: str, message: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, node, sender, message))


@dataclass(frozen=True, slots=True)
class Figures:
    """Rounds of many updates, and the traffic of a steady mesh."""

    n: int
    updates: int
    seconds_p50: float
    seconds_p99: float
    seconds_max: float
    rounds_p50: int
    rounds_p99: int
    rounds_max: int
    quiet: Traffic
    """Nobody changes."""
    churning: Traffic
    """Everybody says something new each 2 s."""


def spread(n: int, seeds: range, updates: int, *, loss: float = 0.05) -> list[float]:
    """Seconds until each of `updates` updates per seed was everywhere, the meshes quiet otherwise; ascending."""
    seconds: list[float] = []
    for seed in seeds:
        net = GossipNet(n, seed, loss=loss)
        net.run(WARM_S)
        for _ in range(updates):
            seconds.append(net.update())
            net.run(random.Random(len(seconds)).uniform(0.5, 2.5))  # so that updates meet pushes at any phase
    return sorted(seconds)


def traffic(n: int, *, churn: bool, seconds: float = 20.0, loss: float = 0.05) -> Traffic:
    """What gossip costs in a steady mesh."""
    net = GossipNet(n, 1, loss=loss, churn=churn)
    net.run(WARM_S)
    return net.run(seconds)


def measure(n: int, seeds: range, updates: int, *, loss: float = 0.05) -> Figures:
    """All figures for meshes of `n` nodes."""
    seconds = spread(n, seeds, updates, loss=loss)
    p50, p99, most = quantile(seconds, 0.5), quantile(seconds, 0.99), seconds[-1]
    quiet, churning = (traffic(n, churn=churn, loss=loss) for churn in (False, True))
    rounds = (rounds_of(p50), rounds_of(p99), rounds_of(most))
    return Figures(n, len(seconds), p50, p99, most, *rounds, quiet=quiet, churning=churning)


def rounds_of(seconds: float) -> int:
    """Rounds begun in this time."""
    return math.ceil(seconds / COMPARE_EVERY_S)


def quantile(ascending: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _seal(node: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=node.encode()).digest()


def _check(node: str, message: bytes, signature: bytes) -> bool:
    return _seal(node, message) == signature
