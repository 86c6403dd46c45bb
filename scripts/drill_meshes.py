"""Meshes of a drill: hosts that form one, agree on something for a while, hold a model, and answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from drill_figures import BACK_S, Figures, Steady, answer, common_leader, is_whole_of, results, wait_for
from drill_hosts import END_S, POLL_S, Condition, DrillFailed, Host

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject

MODEL = "smollm2"
LAYERS = 30
PROMPT = "Tell a long story about a tamarillo and the blue sky."
SHORT, LONG = 24, 400
"""Tokens of an answer: one that shows that a side serves, and one that goes on through what happens."""
CHAT_S = 240.0
START_S = 60.0
STEADY_S = 0.5
"""Who agreed must still do so after this time, before something is done to them."""
SETTLE_S = 6.0
"""For two leases nobody may disagree: after that no one who came back stands against the leader any more."""


@dataclass(frozen=True, slots=True)
class Told:
    """A whole answer."""

    text: str
    token_ids: tuple[int, ...]
    ended: float
    """When it was complete, in monotonic seconds."""


class Meshes(Figures):
    """What the steps do with the hosts of a mesh, whichever they are."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._model = ""

    # ---- who is here

    def form(self, hosts: Sequence[Host]) -> None:
        """Starts hosts and makes them one mesh."""
        for host in hosts:
            host.start()
        results([host.watch(START_S, lambda _: True) for host in hosts])
        first, *guests = hosts
        for guest in guests:
            window = json.loads(first.peerinfer("invite", "--json"))
            guest.peerinfer("join", window["code"], "--host", f"{first.address}:{window['port']}", "--yes")
        self.until_whole(hosts)

    def until_whole(self, hosts: Sequence[Host]) -> None:
        """Waits until all hear all and name one leader."""
        results([host.watch(BACK_S, is_whole_of(len(hosts))) for host in hosts])
        self.agree(hosts, steady_s=STEADY_S)

    def agree(
        self,
        hosts: Sequence[Host],
        holds: Condition = lambda _: True,
        named: Callable[[Sequence[JsonObject]], str] = common_leader,
        steady_s: float = SETTLE_S,
    ) -> tuple[float, str]:
        """Since when all of `hosts` name the same, and `holds`, without a break for `steady_s`; and what they name.

        Who agrees, falls out and agrees again is counted from the second time.
        """
        end = time.monotonic() + BACK_S + steady_s
        steady = Steady()
        while time.monotonic() < end:
            value = self.agreed(hosts, holds, named)
            if steady.note(value, time.monotonic()) >= steady_s:
                return steady.since, value
            time.sleep(POLL_S)
        raise DrillFailed(f"{', '.join(host.node_name for host in hosts)} did not come to agree in time.")

    def agreed(
        self,
        hosts: Sequence[Host],
        holds: Condition = lambda _: True,
        named: Callable[[Sequence[JsonObject]], str] = common_leader,
    ) -> str:
        """What all of `hosts` name now; an empty text if they do not name the same, or not all of them `holds`."""
        states = [each.result() for each in [host.ask(_state, END_S) for host in hosts]]
        return named(states) if all(holds(state) for state in states) else ""

    def leader(self, hosts: Sequence[Host]) -> tuple[Host, list[Host]]:
        """Who leads, and the others."""
        leader = hosts[0].ask(_state, END_S).result()["mesh"]["leader"]
        found = [host for host in hosts if self.node_id(host) == leader]
        if not found:
            raise DrillFailed("Nobody leads.")
        return found[0], [host for host in hosts if host is not found[0]]

    def node_id(self, host: Host) -> str:
        """A host's node id."""
        return host.ask(_state, END_S).result()["node"]["id"]

    # ---- models and answers

    def load(self, host: Host, *wishes: str) -> None:
        """Asks a host for the model, and waits for it."""
        self._model = json.loads(host.peerinfer("load", MODEL, *wishes, "--json"))["model"]

    def load_over(self, hosts: Sequence[Host]) -> None:
        """The model over all of the hosts of a mesh, placed anew."""
        if self._model:
            hosts[0].peerinfer("unload", MODEL)
        self.load(hosts[0], "--min-nodes", str(len(hosts)))
        results([host.watch(BACK_S, is_split_over(len(hosts))) for host in hosts])

    def load_on(self, hosts: Sequence[Host]) -> None:
        """The model over just these two hosts."""
        one, other = (host.node_name for host in hosts)
        self.load(hosts[0], "--stages", f"{one}:0-{LAYERS // 2},{other}:{LAYERS // 2}-{LAYERS}")
        ids = {self.node_id(host) for host in hosts}
        results([host.watch(BACK_S, lambda state: holders(state) == ids) for host in hosts])

    def chat(self, host: Host, tokens: int, begun: list[float] | None = None) -> Future[Told]:
        """A greedy answer of so many tokens by a host; its first piece is noted in `begun`."""
        message = {"role": "user", "content": PROMPT}
        body: JsonObject = {"model": self._model, "messages": [message], "temperature": 0, "max_tokens": tokens}
        flows = (lambda: begun.append(time.monotonic())) if begun is not None else None

        async def asking(client: ApiClient) -> Told:
            text, token_ids = await answer(client, {**body, "peerinfer": True}, flows)
            return Told(text, tuple(token_ids), time.monotonic())

        return host.ask(asking, CHAT_S)

    def flowing(self, hosts: Sequence[Host]) -> list[Future[Told]]:
        """Long answers, one by each host, that have all begun."""
        begun: list[float] = []
        chats = [self.chat(host, LONG, begun) for host in hosts]
        wait_for(lambda: len(begun) == len(hosts) or any(chat.done() for chat in chats), CHAT_S)
        return chats


def holders(state: JsonObject) -> set[str]:
    """The nodes that hold the one ready instance; none unless there is exactly one."""
    ready = [one for one in state["instances"] if one["state"] == "ready"]
    return {stage["node"] for stage in ready[0]["stages"]} if len(ready) == 1 else set()


def is_split_over(count: int) -> Condition:
    """Whether the one instance is ready, and on so many hosts."""
    return lambda state: len(state["instances"]) == 1 and len(holders(state)) == count


async def _state(client: ApiClient) -> JsonObject:
    return await client.state()
