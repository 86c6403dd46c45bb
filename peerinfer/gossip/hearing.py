"""Who is here, by this node's own ears and those of its neighbours. Pure.

A sign of life is a heartbeat (any bytes) that came over the node's own link, or a neighbour's word that it heard one
so long ago, which counts from the time of the question: never younger than it is. A forwarded snapshot says nothing,
and a node that this one never heard itself does not come to life by hearsay.

Silence is counted in *listened time*: each tick adds the time since the last one, but at most `LISTENED_MAX_S`. So a
node that stood still, slept or is overloaded accuses nobody for what it could not hear, and gets there all the same
(in the spirit of Lifeguard: Dadgar, Phillips and Currey 2018, "Local health awareness for more accurate failure
detection", §IV). `wake` spares everybody for a lease besides.

A farewell ends a node at once, until it is heard itself with a higher incarnation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.gossip.liveness import GONE_AFTER_S, UNREACHABLE_AFTER_S, Liveness, liveness
from peerinfer.gossip.messages import AskHeard, Heard
from peerinfer.identity.roster import MEMBERS_MAX
from peerinfer.net.effects import SendTo

LISTENED_MAX_S: Final = 0.5
"""What one tick can have heard at most: a heartbeat's period. Ticks come twice as often."""
STALL_S: Final = 2.0
"""A tick so late says that this machine stood still."""
SPARE_S: Final = 3.0
"""Listened time after a sleep or stall in which nobody is accused: a leader's lease."""
ASK_AFTER_S: Final = 1.0
"""Of silence: two heartbeats are missing, and there is time for two questions before it counts as unreachable."""
ASK_EVERY_S: Final = 0.5
"""Between two questions about the same node; a lost one still leaves time for another."""
ASK_GONE_EVERY_S: Final = 5.0
"""The same once it is gone: a machine may be off for weeks, yet may come back to where only a neighbour hears it."""
ASK_NEIGHBOURS: Final = 3
"""Asked each time, as in SWIM (Das, Gupta and Motivala 2002, §4.1): one may share this node's trouble."""
ASK_NODES_MAX: Final = 64
"""Nodes in one question; the others are asked about at the next tick."""

Asking = tuple[SendTo, ...]


@dataclass(slots=True)
class _Ear:
    """What is heard of one node. Times are listened time, unless said otherwise."""

    since: float
    """Since when it is silent: its last sign of life, or when it became a member."""
    incarnation: int = -1
    """The highest heard from itself."""
    met: bool = False
    """Whether it was ever heard itself in this life."""
    direct: float = -math.inf
    """When it was last heard itself."""
    direct_at: float = -math.inf
    """The same in seconds of the clock: its age is what neighbours are told."""
    ask_at: float = -math.inf
    left: int | None = None
    """The incarnation in which it said farewell, as long as that stands."""


@dataclass(frozen=True, slots=True)
class _Question:
    asked: float
    neighbours: tuple[str, ...]
    nodes: tuple[str, ...]


class Hearing:
    """The ears of node `node`, which begins to listen at `now`."""

    def __init__(self, node: str, chance: random.Random, now: float) -> None:
        self._node = node
        self._chance = chance
        self._ears: dict[str, _Ear] = {}
        self._members: frozenset[str] | None = None
        self._listened = 0.0
        self._last = now
        self._spared_until = 0.0
        self._questions: dict[int, _Question] = {}
        self._number = 0

    def liveness(self, node: str, now: float) -> Liveness:
        """How `node` stands; this node is alive, a stranger gone."""
        if node == self._node:
            return Liveness.ALIVE
        ear = self._ears.get(node)
        if ear is None or ear.left is not None:
            return Liveness.GONE
        return liveness(ear.since if ear.met else None, ear.since, self._time(now))

    def was_heard(self, node: str) -> bool:
        """Whether `node` was heard itself, ever since this node began to listen."""
        ear = self._ears.get(node)
        return node == self._node or (ear is not None and ear.met)

    def direct(self) -> frozenset[str]:
        """The nodes heard over their own links within the last 2 s of listening, this one not among them."""
        return frozenset(node for node, ear in self._ears.items() if self._listened - ear.direct < UNREACHABLE_AFTER_S)

    def see(self, members: frozenset[str], now: float) -> None:
        """The roster as it is now: others are forgotten, and newcomers have time to be heard."""
        self._members = members
        since = self._time(now)
        self._ears = {node: ear for node, ear in self._ears.items() if node in members}
        for node in sorted(members - self._ears.keys() - {self._node}):
            self._ears[node] = _Ear(since)

    def heard(self, node: str, incarnation: int, at: float) -> None:
        """`node` itself was heard at `at` (seconds), by a link on which it said it is of this incarnation."""
        ear = self._ear(node, at)
        if ear is None:
            return
        if ear.left is not None:
            if incarnation <= ear.left:
                return
            ear.left = None
        ear.met = True
        ear.incarnation = max(ear.incarnation, incarnation)
        ear.direct_at = max(ear.direct_at, at)
        ear.direct = max(ear.direct, self._time(at))
        ear.since = max(ear.since, ear.direct)

    def left(self, node: str, incarnation: int, now: float) -> None:
        """`node` said farewell; what it said in an incarnation before its present one is late."""
        ear = self._ear(node, now)
        if ear is not None and incarnation >= ear.incarnation:
            ear.left = ear.incarnation = incarnation
            ear.direct = ear.direct_at = -math.inf

    def tick(self, now: float) -> None:
        """Time goes on. After a stall everybody is spared, but not again within that: it must get there some day."""
        if now - self._last > STALL_S and self._listened >= self._spared_until:
            self._spare()
        self._listened = self._time(now)
        self._last = now

    def wake(self, now: float) -> None:
        """This node slept: it heard nothing meanwhile, and listens for a lease before it accuses anybody."""
        self._spare()
        self._last = now
        for ear in self._ears.values():
            ear.direct_at = -math.inf  # the clock may have slept too: no neighbour is told an age by it
        self._questions.clear()

    # Through a neighbour

    def ask(self, neighbours: Sequence[str]) -> Asking:
        """The questions that are due now about silent nodes, to some of the connected `neighbours`."""
        silent = [node for node, ear in self._ears.items() if self._is_due(ear)]
        if not silent:
            return ()
        silent = silent[:ASK_NODES_MAX]
        for node in silent:
            ear = self._ears[node]
            gone = self._listened - ear.since >= GONE_AFTER_S
            ear.ask_at = self._listened + (ASK_GONE_EVERY_S if gone else ASK_EVERY_S)
        able = [node for node in neighbours if self._hears_well(node)]
        if not able:
            return ()
        asked = self._chance.sample(able, min(ASK_NEIGHBOURS, len(able)))
        self._number += 1
        self._questions = {
            number: question
            for number, question in self._questions.items()
            if self._listened - question.asked < UNREACHABLE_AFTER_S  # a later answer could help nobody
        }
        self._questions[self._number] = _Question(self._listened, tuple(asked), tuple(silent))
        question = AskHeard(tuple(silent), self._number)
        return tuple(SendTo(node, question) for node in asked)

    def answer(self, asked: AskHeard, now: float) -> Heard:
        """What this node heard itself of the nodes in a neighbour's question."""
        ages: list[tuple[str, int, int]] = []
        for node in asked.nodes[:ASK_NODES_MAX]:
            ear = self._ears.get(node)
            if ear is not None and ear.left is None and now - ear.direct_at < GONE_AFTER_S:
                ages.append((node, ear.incarnation, max(0, round((now - ear.direct_at) * 1e6))))
        return Heard(asked.number, tuple(ages))

    def told(self, sender: str, heard: Heard) -> None:
        """A neighbour's answer: it counts from the time of the question, for nodes asked about and met before."""
        question = self._questions.get(heard.number)
        if question is None or sender not in question.neighbours:
            return
        for node, incarnation, age_us in heard.ages[:ASK_NODES_MAX]:
            ear = self._ears.get(node) if node in question.nodes else None
            if ear is not None and ear.left is None and incarnation >= ear.incarnation and age_us >= 0:
                ear.since = max(ear.since, question.asked - age_us / 1e6)

    def _ear(self, node: str, now: float) -> _Ear | None:
        """The ear for `node`; None if it is no member (before the first roster: if there are too many)."""
        ear = self._ears.get(node)
        if ear is None and self._members is None and node != self._node and len(self._ears) < MEMBERS_MAX:
            ear = self._ears[node] = _Ear(self._time(now))
        return ear

    def _time(self, at: float) -> float:
        """Listened time at `at`: of the present at most a tick's worth, of the past never younger than it is."""
        return self._listened + min(at - self._last, LISTENED_MAX_S)

    def _hears_well(self, node: str) -> bool:
        ear = self._ears.get(node)
        return ear is not None and self._listened - ear.direct <= ASK_AFTER_S

    def _is_due(self, ear: _Ear) -> bool:
        listened = self._listened
        return listened - ear.since > ASK_AFTER_S and listened >= ear.ask_at and ear.met and ear.left is None

    def _spare(self) -> None:
        """Has nobody's state get worse for `SPARE_S` of listened time."""
        self._spared_until = self._listened + SPARE_S
        for ear in self._ears.values():
            ear.since = self._spared(ear.since)
            ear.direct = self._spared(ear.direct)

    def _spared(self, since: float) -> float:
        for limit_s in (UNREACHABLE_AFTER_S, GONE_AFTER_S):
            if self._listened - since < limit_s:
                return max(since, self._spared_until - limit_s)
        return since
