"""The network of the simulator: links between hosts over paths that delay, lose, double, reorder and break.

Worse than TCP on purpose: single messages are lost, doubled and overtaken while a link stands. A link comes up when
both directions are open, and goes down at once where a host died (mostly), else after ten seconds of silence.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from peerinfer.control.messages import DropStage, LoadStage
from peerinfer.net.messages import decode, encode, registered

if TYPE_CHECKING:
    from tests.sim.host import Host

SILENCE_S: Final = 10.0
"""Of `net.link.SILENCE_MAX_S`: then a link is given up."""
LOOK_S: Final = 0.5
"""How often links are looked at and heartbeats pass."""
KEPT_MAX: Final = 400
"""Old messages that a replay may take from."""
EVENTS_MAX: Final = 2_000
"""Events of one host in one second: more is a loop of messages that feed each other."""
HELD_MAX: Final = 2000
"""Messages that wait at a blocked path or a sleeping host."""


@dataclass(slots=True)
class Weather:
    """How bad the network is at the moment."""

    delay_s: tuple[float, float] = (0.0005, 0.02)
    loss: float = 0.0
    double: float = 0.0


@dataclass(slots=True)
class Facts:
    """What `net.switchboard.LinkFacts` tells, as far as control and gossip read it; heartbeats write it."""

    incarnation: int
    last_heard: float
    rtt_us: float | None = 100.0


class Network:
    """Virtual time, the queue of what happens next, and the paths between hosts."""

    def __init__(self, seed: int, *, through_codec: bool) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.hosts: dict[str, Host] = {}
        self.weather = Weather()
        self.blocked: set[tuple[str, str]] = set()
        """Directed paths that carry nothing."""
        self.links: dict[frozenset[str], float | None] = {}
        """The links that stand, each with the time since when it is broken."""
        self.kept: list[tuple[str, str, Any]] = []
        self.sent = 0
        self.delayed: tuple[str, str] | None = None
        """Class and receiver of messages that are under way for very long."""
        self.late: list[tuple[str, str, Any]] = []
        self._through_codec = through_codec
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._held: dict[tuple[str, str], list[Any]] = {}

    # Time

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Has `what` happen at virtual time `when`."""
        heapq.heappush(self._queue, (when, next(self._numbers), what))

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay_s, what)

    def run(self, until: float, each: Callable[[], None]) -> None:
        """Lets everything happen until then; `each` is called after every event."""
        events = 0
        most = EVENTS_MAX * (1.0 + until - self.now) * (1 + len(self.hosts))
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self._queue)
            what()
            each()
            events += 1
            if events > most:
                raise RuntimeError("messages without end")
        self.now = until

    # Messages

    def send(self, sender: str, to: str, message: Any) -> bool:
        """Sends over the link, if there is one."""
        if sender == to and self.delayed != (type(message).__name__, to):
            self.after(0.0, lambda: self._arrive(sender, to, message))
            return True
        if frozenset((sender, to)) not in self.links:
            return False
        self.sent += 1
        if self.delayed == (type(message).__name__, to):
            self.late.append((sender, to, message))
            return True
        if type(message) in (LoadStage, DropStage) or self.chance.random() < 0.05:
            self.kept.append((sender, to, message))
            if len(self.kept) > KEPT_MAX:
                self.kept.pop(self.chance.randrange(KEPT_MAX))
        weather = self.weather
        if (sender, to) in self.blocked:
            self._hold(sender, to, message)
        elif not (weather.loss and self.chance.random() < weather.loss):
            self._carry(sender, to, message)
            if weather.double and self.chance.random() < weather.double:
                self._carry(sender, to, message)
        return True

    def deliver(self, sender: str, to: str, message: Any) -> None:
        """Delivers a message that the sender did not send now: a replay or a forgery."""
        self.after(0.01, lambda: self._arrive(sender, to, message))

    def _carry(self, sender: str, to: str, message: Any) -> None:
        low, high = self.weather.delay_s
        self.after(self.chance.uniform(low, high), lambda: self._arrive(sender, to, message))

    def _hold(self, sender: str, to: str, message: Any) -> None:
        """What is sent into a broken path is lost, or comes when it heals, as TCP would have it."""
        held = self._held.setdefault((sender, to), [])
        if len(held) < HELD_MAX and self.chance.random() < 0.5:
            held.append(message)

    def _arrive(self, sender: str, to: str, message: Any) -> None:
        host = self.hosts[to]
        if host.is_dead or (sender, to) in self.blocked:
            return
        if self._through_codec and type(message) in registered().values():
            message = decode(encode(message))
        if host.is_awake:
            host.take(sender, message)
        elif len(host.inbox) < HELD_MAX:
            host.inbox.append((sender, message))

    # Paths and links

    def block(self, pairs: set[tuple[str, str]]) -> None:
        """Breaks these directed paths."""
        self.blocked |= pairs

    def heal(self, pairs: set[tuple[str, str]]) -> None:
        """Mends them; what was held comes through if the link still stands."""
        self.blocked -= pairs
        for pair in sorted(pairs):
            waiting = self._held.pop(pair, [])
            if frozenset(pair) in self.links:
                for message in waiting:
                    self._carry(*pair, message)

    def cut(self, host: str) -> None:
        """All links of a host that died are gone."""
        for link in [link for link in self.links if host in link]:
            del self.links[link]

    def look(self) -> None:
        """Brings links in line with paths and hosts, and lets heartbeats pass."""
        before = set(self.links)
        hosts = [host for host in self.hosts.values() if not host.is_dead]
        for a, b in itertools.combinations(hosts, 2):
            self._look_at(a, b)
        self._beat()
        fresh = [link for link in self.links if link not in before]
        for link in sorted(fresh, key=sorted):
            for one in sorted(link):
                (other,) = link - {one}
                self.hosts[one].peer_up(other)
        self.after(LOOK_S, self.look)

    def _look_at(self, a: Host, b: Host) -> None:
        pair = frozenset((a.id, b.id))
        is_wanted = b.id not in a.removed and a.id not in b.removed
        is_open = (a.id, b.id) not in self.blocked and (b.id, a.id) not in self.blocked and a.is_awake and b.is_awake
        if pair not in self.links:
            if is_open and is_wanted and self.chance.random() < 0.6:
                self.links[pair] = None
                a.link(b)
                b.link(a)
        elif not is_wanted:
            self._unlink(a, b)
        elif is_open:
            self.links[pair] = None
        else:
            since = self.links[pair]
            self.links[pair] = self.now if since is None else since
            if since is not None and self.now - since > SILENCE_S:
                self._unlink(a, b)

    def _unlink(self, a: Host, b: Host) -> None:
        self.links.pop(frozenset((a.id, b.id)), None)
        a.unlink(b.id)
        b.unlink(a.id)

    def _beat(self) -> None:
        loss = self.weather.loss
        for host in self.hosts.values():
            if not host.is_awake:
                continue
            heard_at = host.monotonic()
            for other, facts in host.facts.items():
                is_open = (other, host.id) not in self.blocked and self.hosts[other].is_awake
                if is_open and not (loss and self.chance.random() < loss):
                    facts.last_heard = heard_at
