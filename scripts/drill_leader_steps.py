"""The steps of the drill of leadership, each with its figures and what must hold of them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from drill_figures import BACK_S, Figures, alive, answer, common_leader, is_whole_of, results, wait_for
from drill_hosts import END_S, Condition, DrillFailed, Host, Lan
from drill_obedience import Obedience

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject

KILL_BAR_S = 8.0
TERM_BAR_S = 1.0
MODEL = "smollm2"
LAYERS = 30
PROMPT = "Tell a long story about a tamarillo and the blue sky."
SHORT, LONG = 24, 400
"""Tokens of an answer: one that shows that a side serves, and one that goes on through what happens."""
CHAT_S = 240.0
STEADY_S = 0.5
"""Who agreed on a leader must still do so after this time."""
SETTLE_S = 6.0
"""After this time, two leases, nobody who came back stands against the leader any more."""
START_S = 60.0


class LeaderDrill(Figures):
    """Steps on the hosts of one network after the other."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._lan: Lan | None = None
        self._hosts: Sequence[Host] = ()
        self._model = ""

    def use(self, lan: Lan, hosts: Sequence[Host]) -> None:
        """The hosts of the steps that follow."""
        self._lan, self._hosts, self._model = lan, hosts, ""

    # ---- steps

    def kill(self, repeat: int) -> None:
        """The leader of three dies while the two others answer."""
        self._form(self._hosts)
        expected = ""
        times: list[float] = []
        for number in range(1, repeat + 1):
            leader, others = self._leader(self._hosts)
            self._load_on(others)
            expected = expected or self._chat(others[0], LONG).result(CHAT_S)[0]
            times.append(self._kill_one(number, leader, others, expected))
            leader.start()
            self._until_whole(self._hosts)
        self.spread("kill -9 of three's leader: another leads, s", times, KILL_BAR_S)

    def _kill_one(self, number: int, leader: Host, others: Sequence[Host], expected: str) -> float:
        """Seconds from the leader's death until another led."""
        chat = self._flowing(others[:1])[0]
        gone = self._id(leader)
        killed = leader.kill()
        took_s = self._led(others, lambda state: state["mesh"]["leader"] != gone) - killed
        self.figure(f"kill {number}: another led after s", took_s, took_s <= KILL_BAR_S)
        went_on = not chat.done()
        self.figure(f"kill {number}: the answer was still under way then", went_on, went_on)
        whole = chat.result(CHAT_S)[0] == expected
        self.figure(f"kill {number}: the answer lost nothing", whole, whole)
        return took_s

    def term(self, repeat: int) -> None:
        """The leader is ended by SIGTERM, of three and of two."""
        for hosts in (self._hosts[:3], self._hosts[3:5]):
            self._form(hosts)
            times = [self._term_one(hosts) for _ in range(repeat)]
            self.spread(f"SIGTERM of the leader of {len(hosts)}: another leads, s", times, TERM_BAR_S)

    def _term_one(self, hosts: Sequence[Host]) -> float:
        """Seconds from the signal until all others named one of them; the ended daemon is then started again."""
        leader, others = self._leader(hosts)
        gone = self._id(leader)
        watched = [host.watch(START_S, _is_led_by_others(gone)) for host in others]
        time.sleep(0.2)  # the watchers poll already: what is measured is the mesh, not their start
        begun = _signal(leader, signal.SIGTERM)
        took_s = max(each[-1] for each in results(watched)) - begun
        self._led(others, _is_led_by_others(gone))
        leader.end()
        leader.start()
        self._until_whole(hosts)
        return took_s

    def cut(self, repeat: int) -> None:
        """Five are cut into three and two, serve apart, and become one again."""
        self._form(self._hosts)
        expected = ""
        times: list[tuple[float, float, float]] = []
        for number in range(1, repeat + 1):
            self._load_over_all()
            expected = expected or self._chat(self._hosts[0], LONG).result(CHAT_S)[0]
            times.append(self._cut_one(number, expected))
        served, healed, one = zip(*times, strict=True)
        self.spread("cut 3/2: both sides serve, s", served)
        self.spread("cut 3/2: one leader after healing, s", healed)
        self.spread("cut 3/2: one instance after healing, s", one)

    def _cut_one(self, number: int, expected: str) -> tuple[float, float, float]:
        """Seconds from the cut until both sides served; from healing to one leader, and to one instance."""
        left, right = self._hosts[:3], self._hosts[3:]
        cut = self._pull(whole=False)
        served = max(self._serves(side, number) for side in (left, right))
        chats = self._flowing((left[0], right[0]))
        were_under_way = not any(chat.done() for chat in chats)
        back = self._pull(whole=True)
        healed = self._led(self._hosts, lambda state: alive(state) == len(self._hosts))
        single = [host.watch(BACK_S, _has_one_ready) for host in self._hosts]
        whole = were_under_way and all(chat.result(CHAT_S)[0] == expected for chat in chats)
        self.figure(f"cut {number}: the answers under way on both sides lost nothing", whole, whole)
        one = max(each[-1] for each in results(single))
        took = served - cut, healed - back, one - back
        told = "sides served after {:.1f} s; after healing one leader {:.1f} s, one instance {:.1f} s"
        self.figure(f"cut {number}", told.format(*took))
        return took

    def stop(self, repeat: int, stop_s: float) -> None:
        """One side of a pair stands still; several pairs at once."""
        pairs = [self._hosts[number : number + 2] for number in range(0, len(self._hosts), 2)]
        for pair in pairs:
            self._form(pair)
            self._load_from(pair[0], "--min-nodes", "2")
        times: dict[str, list[float]] = {"leader": [], "follower": []}
        for number in range(1, -(-repeat // len(pairs)) + 1):
            stopped: list[tuple[str, Host, Host]] = []
            for place, pair in enumerate(pairs):
                leader, (follower,) = self._leader(pair)
                is_leader = (number + place) % 2 == 1
                stopped.append(("leader", leader, follower) if is_leader else ("follower", follower, leader))
            for _, still, _ in stopped:
                _signal(still, signal.SIGSTOP)
            time.sleep(stop_s)
            for who, still, other in stopped:
                times[who].append(self._go_on(f"stop {number}: {who} {still.node_name}", still, other))
            time.sleep(SETTLE_S)
            for pair in pairs:
                self._led(pair, lambda state: alive(state) == 2)
        for who, values in times.items():
            self.spread(f"{who} of two stood still for {stop_s:g} s: one leader again, s", values)

    def _go_on(self, name: str, still: Host, other: Host) -> float:
        """Seconds from the moment when a host goes on until both name one leader."""
        leads = self._agreed((other,), lambda _: True) == self._id(other)
        self.figure(f"{name}: the other led while it stood still", leads, leads)
        begun = _signal(still, signal.SIGCONT)
        took_s = self._led((still, other), lambda state: alive(state) == 2) - begun
        self.figure(f"{name}: one leader again after s", took_s)
        return took_s

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

    # ---- how

    def _form(self, hosts: Sequence[Host]) -> None:
        """Starts hosts and makes them one mesh."""
        for host in hosts:
            host.start()
        results([host.watch(START_S, lambda _: True) for host in hosts])
        first, *guests = hosts
        for guest in guests:
            window = json.loads(first.peerinfer("invite", "--json"))
            guest.peerinfer("join", window["code"], "--host", f"{first.address}:{window['port']}", "--yes")
        self._until_whole(hosts)

    def _until_whole(self, hosts: Sequence[Host]) -> None:
        results([host.watch(BACK_S, is_whole_of(len(hosts))) for host in hosts])
        self._led(hosts, lambda _: True)

    def _led(self, hosts: Sequence[Host], holds: Condition) -> float:
        """When all of `hosts` named one leader, and `holds`; they still did so a moment later."""
        end = time.monotonic() + BACK_S
        while time.monotonic() < end:
            leader = self._agreed(hosts, holds)
            agreed = time.monotonic()
            time.sleep(STEADY_S if leader else 0.02)
            if leader and self._agreed(hosts, holds) == leader:
                return agreed
        raise DrillFailed("No leader was found by all in time.")

    def _agreed(self, hosts: Sequence[Host], holds: Condition) -> str:
        """The leader on whom all of `hosts` agree now; an empty text if they do not, or not all of them `holds`."""
        states = [each.result() for each in [host.ask(_state, END_S) for host in hosts]]
        return common_leader(states) if all(holds(state) for state in states) else ""

    def _leader(self, hosts: Sequence[Host]) -> tuple[Host, list[Host]]:
        """Who leads, and the others."""
        leader = hosts[0].ask(_state, END_S).result()["mesh"]["leader"]
        found = [host for host in hosts if self._id(host) == leader]
        if not found:
            raise DrillFailed("Nobody leads.")
        return found[0], [host for host in hosts if host is not found[0]]

    def _id(self, host: Host) -> str:
        return host.ask(_state, END_S).result()["node"]["id"]

    def _load_from(self, host: Host, *wishes: str) -> None:
        self._model = json.loads(host.peerinfer("load", MODEL, *wishes, "--json"))["model"]

    def _load_over_all(self) -> None:
        """The model over all hosts, placed anew."""
        if self._model:
            self._hosts[0].peerinfer("unload", MODEL)
        self._load_from(self._hosts[0], "--min-nodes", str(len(self._hosts)))
        results([host.watch(BACK_S, _is_split_over(len(self._hosts))) for host in self._hosts])

    def _load_on(self, hosts: Sequence[Host]) -> None:
        """The model over just these two hosts."""
        one, other = (host.node_name for host in hosts)
        self._load_from(hosts[0], "--stages", f"{one}:0-{LAYERS // 2},{other}:{LAYERS // 2}-{LAYERS}")

    def _chat(self, host: Host, tokens: int, begun: list[float] | None = None) -> Future[tuple[str, list[int]]]:
        """A greedy answer of so many tokens by a host; its first piece is noted in `begun`."""
        message = {"role": "user", "content": PROMPT}
        body: JsonObject = {"model": self._model, "messages": [message], "temperature": 0, "max_tokens": tokens}
        flows = (lambda: begun.append(time.monotonic())) if begun is not None else None
        return host.ask(lambda client: answer(client, {**body, "peerinfer": True}, flows), CHAT_S)

    def _flowing(self, hosts: Sequence[Host]) -> list[Future[tuple[str, list[int]]]]:
        """Long answers, one by each host, that have all begun."""
        begun: list[float] = []
        chats = [self._chat(host, LONG, begun) for host in hosts]
        wait_for(lambda: len(begun) == len(hosts) or any(chat.done() for chat in chats), CHAT_S)
        return chats

    def _serves(self, side: Sequence[Host], number: int) -> float:
        """When a side had a leader of its own, and the model on its own hosts; it then answers."""
        ids = {self._id(host) for host in side}
        self._led(side, lambda state: state["mesh"]["leader"] in ids)
        ready = results([host.watch(BACK_S, _is_served_by(ids)) for host in side])
        _, token_ids = self._chat(side[-1], SHORT).result(CHAT_S)
        self.figure(f"cut {number}: tokens answered by the {len(side)}", len(token_ids), bool(token_ids))
        return max(each[-1] for each in ready)

    def _pull(self, *, whole: bool) -> float:
        """Pulls the cable between the halves, or puts it in; returns when."""
        if self._lan is not None:
            self._lan.join(whole)
        return time.monotonic()


def _is_led_by_others(gone: str) -> Condition:
    return lambda state: state["mesh"]["leader"] not in (None, gone)


def _is_served_by(ids: set[str]) -> Condition:
    """Whether one of these nodes leads, and the one ready instance runs on none but them."""

    def holds(state: JsonObject) -> bool:
        ready = [one for one in state["instances"] if one["state"] == "ready"]
        return state["mesh"]["leader"] in ids and len(ready) == 1 and {one["node"] for one in ready[0]["stages"]} <= ids

    return holds


def _is_split_over(count: int) -> Condition:
    """Whether the one instance is ready, and on so many hosts."""
    return lambda state: (
        _has_one_ready(state) and len({one["node"] for one in state["instances"][0]["stages"]}) == count
    )


def _has_one_ready(state: JsonObject) -> bool:
    return [one["state"] for one in state["instances"]] == ["ready"]


def _signal(host: Host, number: signal.Signals) -> float:
    """Sends a signal to a host's daemon; returns when."""
    if host.process is None or host.process.poll() is not None:
        raise DrillFailed(f"The daemon of {host.node_name} has ended by itself.")
    begun = time.monotonic()
    host.process.send_signal(number)
    return begun


async def _state(client: ApiClient) -> JsonObject:
    return await client.state()
