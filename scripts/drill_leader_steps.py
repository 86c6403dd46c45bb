"""The steps of the drill of leadership, each with its figures and what must hold of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from drill_figures import BACK_S, alive, common_instance, results
from drill_hosts import Condition, DrillFailed, Host, Lan
from drill_meshes import CHAT_S, LONG, SHORT, START_S, STEADY_S, Meshes, Told, holders
from drill_obedience import Obedience

KILL_BAR_S = 8.0
TERM_BAR_S = 1.0
AGAIN_BAR_S = 8.0
"""One leader again, after a cable is back or a process goes on: no later than after a crash."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How one process that stood still came back."""

    who: str
    node_name: str
    other_led: bool
    """Whether the other one led while it stood still."""
    took_s: float
    """From the moment when it went on until both named one leader, and did so for two leases."""


class LeaderDrill(Meshes):
    """Steps on the hosts of one network after the other."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._lan: Lan | None = None
        self._hosts: Sequence[Host] = ()

    def use(self, lan: Lan, hosts: Sequence[Host]) -> None:
        """The hosts of the steps that follow."""
        self._lan, self._hosts, self._model = lan, hosts, ""

    # ---- a leader that ends

    def kill(self, repeat: int) -> None:
        """The leader of three dies while the two others answer."""
        self.form(self._hosts)
        expected: Told | None = None
        times: list[float] = []
        for number in range(1, repeat + 1):
            leader, others = self.leader(self._hosts)
            self.load_on(others)
            expected = expected or self.chat(others[0], LONG).result(CHAT_S)
            times.append(self._kill_one(number, leader, others, expected))
            leader.start()
            self.until_whole(self._hosts)
        self.spread("kill -9 of three's leader: another leads, s", times, KILL_BAR_S)

    def _kill_one(self, number: int, leader: Host, others: Sequence[Host], expected: Told) -> float:
        """Seconds from the leader's death until another led."""
        chat = self.flowing(others[:1])[0]
        gone = self.node_id(leader)
        killed = leader.kill()
        led, _ = self.agree(others, _is_led_by_others(gone))
        told = chat.result(CHAT_S)
        took_s = led - killed
        self.figure(f"kill {number}: another led after s", took_s, took_s <= KILL_BAR_S)
        went_on = told.ended > led
        self.figure(f"kill {number}: the answer was still under way then", went_on, went_on)
        self._same(f"kill {number}: the answer lost nothing", [told], expected)
        return took_s

    def term(self, repeat: int) -> None:
        """The leader is ended by SIGTERM, of three and of two."""
        for hosts in (self._hosts[:3], self._hosts[3:5]):
            self.form(hosts)
            times = [self._term_one(hosts) for _ in range(repeat)]
            self.spread(f"SIGTERM of the leader of {len(hosts)}: another leads, s", times, TERM_BAR_S)

    def _term_one(self, hosts: Sequence[Host]) -> float:
        """Seconds from the signal until all others named one of them; the ended daemon is then started again."""
        leader, others = self.leader(hosts)
        gone = self.node_id(leader)
        watched = [host.watch(START_S, _is_led_by_others(gone)) for host in others]
        time.sleep(0.2)  # the watchers poll already: what is measured is the mesh, not their start
        begun = _signal(leader, signal.SIGTERM)
        took_s = max(each[-1] for each in results(watched)) - begun
        self.agree(others, _is_led_by_others(gone), steady_s=STEADY_S)
        leader.end()
        leader.start()
        self.until_whole(hosts)
        return took_s

    # ---- a mesh in two halves

    def cut(self, repeat: int) -> None:
        """Five are cut into three and two, serve apart, and become one again."""
        self.form(self._hosts)
        expected: Told | None = None
        times: list[tuple[float, float, float]] = []
        for number in range(1, repeat + 1):
            self.load_over(self._hosts)
            expected = expected or self.chat(self._hosts[0], LONG).result(CHAT_S)
            times.append(self._cut_one(number, expected))
        served, healed, one = zip(*times, strict=True)
        self.spread("cut 3/2: both sides serve, s", served)
        self.spread("cut 3/2: one leader after healing, s", healed, AGAIN_BAR_S)
        self.spread("cut 3/2: one instance after healing, s", one)

    def _cut_one(self, number: int, expected: Told) -> tuple[float, float, float]:
        """Seconds from the cut until both sides served; from healing to one leader, and to one instance."""
        left, right = self._hosts[:3], self._hosts[3:]
        cut = self._pull(whole=False)
        served = max(self._serves(side, number, expected) for side in (left, right))
        chats = self.flowing((left[0], right[0]))
        back = self._pull(whole=True)
        healed, leader = self.agree(self._hosts, lambda state: alive(state) == len(self._hosts))
        one, _ = self.agree(self._hosts, named=common_instance)
        told = [chat.result(CHAT_S) for chat in chats]
        under_way = min(each.ended for each in told) > back
        self.figure(f"cut {number}: both sides were answering when they met", under_way, under_way)
        late = [each.ended - healed for each in told]
        self.figure(
            f"cut {number}: the answers ended so many s after there was one leader", [round(s, 1) for s in late]
        )
        self._same(f"cut {number}: the answers under way on both sides lost nothing", told, expected)
        same = self.agreed(self._hosts) == leader
        self.figure(f"cut {number}: the leader is still the same", same, same)
        took = served - cut, healed - back, one - back
        shown = "sides served after {:.1f} s; after healing one leader {:.1f} s, one instance {:.1f} s"
        self.figure(f"cut {number}", shown.format(*took), took[1] <= AGAIN_BAR_S)
        return took

    def _serves(self, side: Sequence[Host], number: int, expected: Told) -> float:
        """When a side had a leader of its own, and the model on its own hosts; it then answers."""
        ids = {self.node_id(host) for host in side}
        self.agree(side, lambda state: state["mesh"]["leader"] in ids, steady_s=STEADY_S)
        ready = results([host.watch(BACK_S, _is_served_by(ids)) for host in side])
        told = self.chat(side[-1], SHORT).result(CHAT_S).token_ids
        right = told == expected.token_ids[:SHORT] and len(told) == SHORT
        self.figure(f"cut {number}: tokens answered by the {len(side)}, as before the cut", len(told), right)
        return max(each[-1] for each in ready)

    def _pull(self, *, whole: bool) -> float:
        """Pulls the cable between the halves, or puts it in; returns when."""
        if self._lan is not None:
            self._lan.join(whole)
        return time.monotonic()

    # ---- a process that stands still

    def stop(self, repeat: int, stop_s: float) -> None:
        """One side of a pair stands still, at least `repeat` times who leads and `repeat` times who follows.

        Several pairs at once.
        """
        pairs = [self._hosts[number : number + 2] for number in range(0, len(self._hosts), 2)]
        for pair in pairs:
            self.form(pair)
            self.load(pair[0], "--min-nodes", "2")
        stops: list[Stop] = []
        for turn in range(turns(repeat, len(pairs))):
            done = self._stop_all(pairs, turn, stop_s)
            for one in done:
                self._tell_stop(f"stop {turn + 1}: {one.who} {one.node_name}", one)
            stops += done
        for who in ("leader", "follower"):
            values = [one.took_s for one in stops if one.who == who]
            self.spread(f"{who} of two stood still for {stop_s:g} s: one leader again, s", values, AGAIN_BAR_S)

    def _stop_all(self, pairs: Sequence[Sequence[Host]], turn: int, stop_s: float) -> list[Stop]:
        """The leader or the follower of each pair stands still; then all go on at once."""
        stopped: list[tuple[str, Host, Host]] = []
        for place, pair in enumerate(pairs):
            leader, (follower,) = self.leader(pair)
            is_follower = (turn + place) % 2
            stopped.append(("follower", follower, leader) if is_follower else ("leader", leader, follower))
        for _, still, _ in stopped:
            _signal(still, signal.SIGSTOP)
        time.sleep(stop_s)
        with ThreadPoolExecutor(len(stopped)) as pool:
            return list(pool.map(self._go_on, *zip(*stopped, strict=True)))

    def _go_on(self, who: str, still: Host, other: Host) -> Stop:
        """A process goes on."""
        leads = self.agreed((other,)) == self.node_id(other)
        begun = _signal(still, signal.SIGCONT)
        again, _ = self.agree((still, other), lambda state: alive(state) == 2)
        return Stop(who, still.node_name, leads, again - begun)

    def _tell_stop(self, name: str, one: Stop) -> None:
        self.figure(f"{name}: the other led while it stood still", one.other_led, one.other_led)
        self.figure(f"{name}: one leader again after s", one.took_s, one.took_s <= AGAIN_BAR_S)

    # ---- what all steps end with

    def check_logs(self, step: str) -> None:
        """Nobody obeyed two leaders, as every log of these hosts says."""
        read = [Obedience.read(host.log.read_text(errors="replace").splitlines()) for host in self._hosts]
        faults = [
            f"{host.node_name} {fault}" for host, log in zip(self._hosts, read, strict=True) for fault in log.faults()
        ]
        obeyed, refused = sum(each.obeyed for each in read), sum(each.refused for each in read)
        self.figure(f"{step}: commands obeyed", obeyed, bool(obeyed) or not self._model)
        self.figure(f"{step}: commands refused", refused)
        self.figure(f"{step}: commands obeyed that may not be", faults, not faults)
        self.figure(f"{step}: load of this machine (1 min)", os.getloadavg()[0])

    def _same(self, name: str, told: Sequence[Told], expected: Told) -> None:
        same = all((each.text, each.token_ids) == (expected.text, expected.token_ids) for each in told)
        self.figure(name, same, same)


def turns(repeat: int, pairs: int) -> int:
    """How often all pairs must stop so that leaders do so `repeat` times and followers too: half of the pairs each.

    An odd pair takes turns, so that one of the two is a stop ahead after an odd number of turns.
    """
    half = pairs // 2
    both, rest = divmod(repeat, pairs)  # two turns are `pairs` stops of each kind
    return 2 * both + (0 if rest == 0 else 1 if rest <= half else 2)


def _is_led_by_others(gone: str) -> Condition:
    return lambda state: state["mesh"]["leader"] not in (None, gone)


def _is_served_by(ids: set[str]) -> Condition:
    """Whether one of these nodes leads, and the one ready instance runs on none but them."""
    return lambda state: state["mesh"]["leader"] in ids and bool(holders(state)) and holders(state) <= ids


def _signal(host: Host, number: signal.Signals) -> float:
    """Sends a signal to a host's daemon; returns when."""
    if host.process is None or host.process.poll() is not None:
        raise DrillFailed(f"The daemon of {host.node_name} has ended by itself.")
    begun = time.monotonic()
    host.process.send_signal(number)
    return begun
