"""The disasters of the simulator, each with its own end: drawn by chance, or called by name in a story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from peerinfer.control.messages import LoadRequest, UnloadRequest
from peerinfer.election.ballot import Ballot
from peerinfer.election.messages import Release, StaleBallot
from peerinfer.gossip.messages import SnapshotSealed
from tests.sim.ground import MODELS
from tests.sim.host import Host

if TYPE_CHECKING:
    from tests.sim.mesh import Mesh

SLEEP_S: Final = (1.0, 25.0)
OFF_S: Final = (0.2, 20.0)
CUT_S: Final = (1.0, 20.0)
BURST_S: Final = (2.0, 10.0)


class Faults:
    """What can go wrong in `mesh`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._network = mesh.network
        self._chance = mesh.network.chance
        self.count = 0
        many = len(mesh.hosts) > 1
        self._kinds: list[tuple[int, Callable[[], None]]] = [
            (6, self.user),
            (3, self.crash),
            (2, self.crash_at_save),
            (2, self.sleep_one),
            (2, self.stop_one),
            (1, self.restart),
            (2, self.stage_dies),
            (1, self.disk_full),
            (1, self.battery),
        ]
        if many:
            self._kinds += [
                (3, self.halves),
                (2, self.one_way),
                (2, self.partial),
                (1, self.sleep_nearly_all),
                (2, self.loss),
                (1, self.doubles),
                (1, self.delays),
                (2, self.replay),
                (1, self.stray_release),
                (1, self.stray_stale),
            ]
        if len(mesh.hosts) > 2 and self._chance.random() < 0.3:
            self._kinds.append((1, self.remove))

    def one(self) -> None:
        """One disaster by chance."""
        self.count += 1
        weights, kinds = zip(*self._kinds, strict=True)
        self._chance.choices(kinds, weights)[0]()

    # People

    def user(self) -> None:
        """Somebody loads or unloads a model."""
        host = self._some()
        if host is None:
            return
        model = self._chance.choice(MODELS)
        number = f"{self._mesh.next_number()}"
        if self._chance.random() < 0.7:
            nodes = self._chance.choice((0, 1, 1, len(self._mesh.hosts)))
            host.ghost.asked[number] = (host.id, host.life, model.digest)
            request = LoadRequest(number, model.name, model.digest, 1024, 1, "latency", nodes)
            host.does(lambda: host.control.ask(request))
        else:
            host.ghost.asked[number] = (host.id, host.life, model.digest)
            host.does(lambda: host.control.ask(UnloadRequest(number, model.digest)))

    def remove(self) -> None:
        """A member removes another one, once."""
        host = self._some()
        if host is None or host.ghost.removed:
            return
        victim = self._chance.choice([one for one in self._mesh.hosts if one is not host])
        host.learn_removals(frozenset({victim.id}))

    # Machines

    def crash(self) -> None:
        host = self._some()
        if host is not None:
            self.off(host)

    def off(self, host: Host) -> None:
        """kill -9, and a restart after a while."""
        host.crash()
        self._network.after(self._draw(OFF_S), lambda: self._back(host))

    def crash_at_save(self) -> None:
        """The host dies just before or just after its next save is on disk."""
        host = self._some()
        if host is None:
            return
        host.dies_at_save = self._chance.choice(("before", "after"))
        self._network.after(self._draw(OFF_S), lambda: self._disarm(host))

    def _disarm(self, host: Host) -> None:
        host.dies_at_save = ""
        self._back(host)

    def restart(self) -> None:
        """SIGTERM, and a start soon after."""
        host = self._some()
        if host is not None:
            host.does(host.stop)
            self._network.after(self._draw(OFF_S), lambda: self._back(host))

    def _back(self, host: Host) -> None:
        if host.is_dead:
            host.start()

    def sleep_one(self) -> None:
        host = self._some()
        if host is not None:
            self.nap(host, self._draw(SLEEP_S), slept=True)

    def sleep_nearly_all(self) -> None:
        span_s = self._draw(SLEEP_S)
        for host in self._awake()[1:]:
            self.nap(host, span_s + self._chance.uniform(0.0, 3.0), slept=True)

    def stop_one(self) -> None:
        """SIGSTOP, SIGCONT: its clock goes on."""
        host = self._some()
        if host is not None:
            self.nap(host, self._draw(SLEEP_S), slept=False)

    def nap(self, host: Host, span_s: float, *, slept: bool) -> None:
        since, life = host.pause(), host.life
        keeps = self._chance.random() < 0.6

        def wake() -> None:
            if host.life == life and not host.is_awake:
                host.resume(since, slept=slept, keeps_inbox=keeps)

        self._network.after(span_s, wake)

    def stage_dies(self) -> None:
        host = self._some()
        ready = [key for key, held in host.keeper.stages.items() if held.state == "ready"] if host else []
        if host is not None and ready:
            key = self._chance.choice(ready)
            host.does(lambda: host.keeper.die(key))

    def disk_full(self) -> None:
        host = self._some()
        if host is not None:
            host.disk.is_full = True
            self._network.after(self._draw(BURST_S), lambda: _empty(host))

    def battery(self) -> None:
        host = self._some()
        if host is not None:
            host.on_battery = not host.on_battery

    # Wires

    def halves(self) -> None:
        ids = self._shuffled()
        cut = self._chance.randrange(1, len(ids))
        self.part(ids[:cut], ids[cut:], self._draw(CUT_S))

    def part(self, left: list[str], right: list[str], span_s: float) -> None:
        """Cuts the mesh in two."""
        self._break({(a, b) for a in left for b in right} | {(b, a) for a in left for b in right}, span_s)

    def one_way(self) -> None:
        ids = self._shuffled()
        self._break({(ids[0], ids[1])}, self._draw(CUT_S))

    def partial(self) -> None:
        """Some pairs do not reach each other, all others do."""
        ids = self._shuffled()
        pairs = [(a, b) for a in ids for b in ids if a < b and self._chance.random() < 0.3]
        self._break({*pairs, *((b, a) for a, b in pairs)}, self._draw(CUT_S))

    def _break(self, pairs: set[tuple[str, str]], span_s: float) -> None:
        self._network.block(pairs)
        self._network.after(span_s, lambda: self._network.heal(pairs))

    def loss(self) -> None:
        self._weather(loss=self._chance.uniform(0.05, 0.5))

    def doubles(self) -> None:
        self._weather(double=0.3)

    def delays(self) -> None:
        self._weather(delay_s=(0.01, self._chance.uniform(0.2, 2.5)))

    def _weather(self, **bad: object) -> None:
        self._network.weather = replace(self._network.weather, **bad)  # pyright: ignore[reportArgumentType]
        good = {name: getattr(type(self._network.weather)(), name) for name in bad}

        def clear() -> None:
            self._network.weather = replace(self._network.weather, **good)

        self._network.after(self._draw(BURST_S), clear)

    # Voices from the past, and from the wrong mouth

    def replay(self) -> None:
        """Old messages come once more, from whoever said them, or snapshots from anybody."""
        kept = self._network.kept
        for _ in range(min(10, len(kept))):
            sender, to, message = self._chance.choice(kept)
            if type(message) is SnapshotSealed:
                sender = self._chance.choice(self._mesh.hosts).id
            self._network.deliver(sender, to, message)

    def stray_release(self) -> None:
        """A member releases a host from a ballot that is not the member's."""
        host = self._some()
        if host is not None and (ballot := host.plane.election.granted) is not None:
            others = [one.id for one in self._mesh.hosts if one.id not in (ballot.node, host.id)]
            for other in others[:1]:
                self._network.deliver(other, host.id, Release(ballot, other))

    def stray_stale(self) -> None:
        """A member says that it promised a ballot far above all that were heard."""
        host, other = self._some(), self._some()
        if host is not None and other is not None and host is not other:
            ballot = Ballot(host.plane.election._highest + self._chance.choice((1, 5, 1000)), other.id)
            self._network.deliver(other.id, host.id, StaleBallot(ballot))

    # Chance

    def _awake(self) -> list[Host]:
        hosts = [host for host in self._mesh.hosts if host.is_awake]
        self._chance.shuffle(hosts)
        return hosts

    def _some(self) -> Host | None:
        awake = self._awake()
        return awake[0] if awake else None

    def _shuffled(self) -> list[str]:
        ids = [host.id for host in self._mesh.hosts]
        self._chance.shuffle(ids)
        return ids

    def _draw(self, span: tuple[float, float]) -> float:
        return self._chance.uniform(*span)


def _empty(host: Host) -> None:
    host.disk.is_full = False
