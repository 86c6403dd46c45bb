"""The steps of the drill, each with its figures and what must hold of them."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import psutil
from drill_figures import BACK_S, Figures, alive, answer, has_ready_instance, is_whole_of, results, wait_for
from drill_hosts import END_S, USER_NAME, Host
from drill_wire import Capture, greeting, is_shut, knock, self_made

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.errors import PeerinferError

SEE_BAR_S = 3.0
CUT_BAR_S = 15.0
SEE_S = 30.0
"""How long is waited for the hosts to see each other, bar or not."""
CHAT_S = 120.0
PEER_PORT = 8643
API_PORT = 8642
MODEL = "smollm2"
PROMPT = "The tamarillo is a fruit. Tell me about the tamarillo and why the sky is blue."
LONG_PROMPT = "Write a very long story about a tamarillo, with many chapters."
TOKENS = 32
LONG_TOKENS = 800
CANARIES = ("a canary at the beginning", "a canary at the end")
"""Sent in the open: they prove that the capture would have found what must not be there."""


class Drill(Figures):
    """The steps of one mesh and a stranger."""

    def __init__(self, hosts: Sequence[Host], say: Callable[[str], None]) -> None:
        super().__init__(say)
        *self.members, self.stranger = hosts
        self._model = ""

    # ---- meeting and pairing

    def first_start(self) -> None:
        """The first start compiles bytecode and is not measured with the others."""
        begun = self.members[0].start()
        (ready,) = self.members[0].watch(SEE_S, lambda _: True).result()
        self.figure("first start on a new machine: ready after s", ready - begun)
        self.figure("load of this machine (1 min)", os.getloadavg()[0])

    def see(self, repeat: int, together: bool) -> None:
        """Unpaired nodes on new homes see each other: timed from the last start, and from the last one's readiness."""
        meetings = [self._meet(together) for _ in range(repeat)]
        how = "together" if together else "one by one"
        for what, values in zip(("the last start", "the last was ready"), zip(*meetings, strict=True), strict=False):
            median = statistics.median(values)
            holds = median <= SEE_BAR_S
            self.figure(f"started {how}, see each other: median s after {what}", median, holds)
            self.figure(f"started {how}, see each other: max s after {what}", max(values))
        self.figure(f"started {how}: median CPU s of a daemon so far", statistics.median(each[2] for each in meetings))

    def _meet(self, together: bool) -> tuple[float, float, float]:
        """Seconds from the last start, and from readiness, until all see all; CPU seconds of the last daemon."""
        for host in self.members:
            host.end()
            shutil.rmtree(host.home, ignore_errors=True)
        watches: list[Future[list[float]]] = []
        started = 0.0
        for host in self.members:
            started = host.start()
            watches.append(host.watch(SEE_S, lambda _: True, lambda state: len(state["nearby"]) == 2))
            if not together:
                host.watch(SEE_S, lambda _: True).result()
        times = results(watches)
        seen = max(at for _, at in times)
        return seen - started, max(0.0, seen - max(ready for ready, _ in times)), self.members[-1].cpu_s()

    def pair(self) -> None:
        """Two join the first by the digits alone; then all know of all."""
        first, *others = self.members
        for guest in others:
            code = json.loads(first.peerinfer("invite", "--json"))["code"]
            begun = time.monotonic()
            shown = guest.watch(SEE_S, lambda state: any(entry["pairing"] for entry in state["nearby"]))
            self.figure(f"invitation seen on {guest.node_name}, s after the digits", shown.result()[0] - begun)
            begun = time.monotonic()
            guest.peerinfer("join", code, "--yes")
            self.figure(f"{guest.node_name} joined, s", time.monotonic() - begun)
        begun = time.monotonic()
        self.figure("all members alive and linked on all, s after the last `join`", self.until_whole() - begun)

    def until_whole(self, timeout_s: float = BACK_S) -> float:
        """When every node has heard of every member and has a link to each, in monotonic seconds."""
        return max(times[-1] for times in results([host.watch(timeout_s, is_whole_of(3)) for host in self.members]))

    # ---- answers

    def load(self) -> None:
        """The model over all three."""
        begun = time.monotonic()
        self._model = json.loads(self.members[0].peerinfer("load", MODEL, "--min-nodes", "3", "--json"))["model"]
        self.figure("loaded over three, s", time.monotonic() - begun)

    def chat(self, after: str = "") -> str:
        """The same question to each node's API. Returns the answer's text."""
        answers: list[tuple[str, list[int]]] = []
        for host in self.members:
            begun = time.monotonic()
            answers.append(
                host.ask(lambda client: answer(client, self._body(PROMPT, TOKENS)), CHAT_S).result(CHAT_S + END_S)
            )
            self.figure(
                f"{after}answer of {len(answers[-1][1])} tokens by {host.node_name}, s", time.monotonic() - begun
            )
        same = all(ids == answers[0][1] and ids for _, ids in answers)
        self.figure(f"{after}the same token ids from each node", same, same)
        return answers[0][0]

    def _body(self, prompt: str, tokens: int) -> JsonObject:
        """A greedy chat with the model that was loaded."""
        messages = [{"role": "user", "content": prompt}]
        return {"model": self._model, "messages": messages, "temperature": 0, "max_tokens": tokens, "peerinfer": True}

    def works_again(self, what: str, begun: float) -> None:
        """The model comes back by itself, or else when somebody asks for it; a chat by every node proves it."""
        ready = [host.watch(END_S, has_ready_instance) for host in self.members]
        by_itself = all(each.exception(2 * END_S) is None for each in ready)
        self.figure(f"{what}: the model came back by itself", by_itself)
        self.chat(f"{what}: ")
        self.figure(f"{what}: answered by all again, s", time.monotonic() - begun)

    # ---- a stranger

    def refuse(self) -> None:
        """A host without credentials gets nowhere, and learns no name."""
        with tempfile.TemporaryDirectory() as folder:
            own = self_made(Path(folder))
            for host in self.members:
                for what, shown in (("no certificate", None), ("a certificate of its own", own)):
                    how = self._knock(host, shown)
                    self.figure(f"stranger with {what} at {host.node_name}", how or "was let in", bool(how))
                # The same knock with a member's certificate gets through: it was the certificate that was refused.
                how = self._knock(host, *self.members[0].certificate())
                self.figure(f"a member's certificate at {host.node_name}", how or "was let in", not how)
                self._see_nothing(host)

    def _knock(self, host: Host, certificate: Path | None, key: Path | None = None) -> str:
        return self.stranger.do(lambda: knock(host.address, PEER_PORT, certificate, key)).result(2 * END_S)

    def _see_nothing(self, host: Host) -> None:
        shown = self.stranger.do(lambda: greeting(host.address, PEER_PORT)).result(2 * END_S).lower()
        told = [name for name in (host.node_name, host.host_name, USER_NAME) if name.encode() in shown]
        self.figure(
            f"names in the certificate of {host.node_name} ({len(shown)} bytes)", told, bool(shown) and not told
        )
        shut = self.stranger.do(lambda: is_shut(host.address, API_PORT)).result(2 * END_S)
        self.figure(f"API of {host.node_name} is shut to the network", shut, shut)

    def canary(self, text: str) -> None:
        """Sends something in the open that the capture must hold."""

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as voice:
                voice.sendto(text.encode("utf-16-le"), (self.members[0].address, 9))

        self.stranger.do(send).result(END_S)

    def search(self, capture: Capture, answered: str) -> None:
        """Nothing that is private passed the bridge in the open."""
        self.figure("frames captured", len(capture.frames))
        self.figure("bytes captured", sum(map(len, capture.frames)))
        self.figure("frames lost to the capture", capture.lost, capture.lost == 0)
        for sign in (*CANARIES, "_peerinfer"):
            self.figure(f"the capture holds {sign!r}", capture.holds(sign), capture.holds(sign))
        words = answered.split()
        pieces = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
        secrets = {
            "prompt": [PROMPT, "tamarillo"],
            "answer": [answered, *(piece for piece in pieces if len(piece) >= 10)],
            "node names": [host.node_name for host in self.members],
            "host names": [*(host.host_name for host in self.members), *long(socket.gethostname())],
            "model name": [MODEL],
            "user names": [USER_NAME, *long(getpass.getuser())],
        }
        for what, needles in secrets.items():
            found = [needle for needle in needles if capture.holds(needle)]
            self.figure(f"{what} in the capture ({len(needles)} texts)", found, not found)

    # ---- trouble

    def restart(self) -> None:
        """A node that stops and starts finds its mesh again."""
        host = self.members[1]
        begun = time.monotonic()
        host.peerinfer("down")
        self.figure("`down`, s", time.monotonic() - begun)
        host.end()
        begun = host.start()
        self.figure("restarted node whole again, s after its start", self.until_whole() - begun)
        self.works_again("restart", begun)

    def cut(self) -> None:
        """A cable goes while answers run over it, one asked at the cut node, one at another."""
        host = self.members[1]
        askers = (self.members[0], host)
        begun: list[float] = []
        answers = [
            asker.ask(lambda client: break_off(client, self._body(LONG_PROMPT, LONG_TOKENS), begun.append), CHAT_S)
            for asker in askers
        ]
        wait_for(lambda: len(begun) == len(askers) or any(each.done() for each in answers), CHAT_S)
        cut = time.monotonic()
        host.plug(False)
        try:
            for asker, ending in zip(askers, answers, strict=True):
                ended, error = ending.result(CHAT_S)
                told = f"{type(error).__name__}: {error}" if error else "no error"
                self.figure(f"cut: answer by {asker.node_name} ended with", told, error is not None and error.retryable)
                self.figure(f"cut: answer by {asker.node_name} ended after s", ended - cut, ended - cut <= CUT_BAR_S)
            for other in (self.members[0], self.members[2]):
                lost = other.watch(BACK_S, lambda state: alive(state) == 2).result()[0]
                self.figure(f"cut: {other.node_name} missed it after s", lost - cut)
        finally:
            back = time.monotonic()
            host.plug(True)
        self.figure("cut: whole again, s after the cable was back", self.until_whole() - back)
        self.works_again("cut", back)

    def kill(self) -> None:
        """A daemon that is killed leaves no engine behind."""
        host = self.members[2]
        engines = host.engines()
        self.figure("kill: engine processes before", len(engines), bool(engines))
        begun = host.kill()
        _, left = psutil.wait_procs(engines, END_S)
        self.figure("kill: engine processes left", len(left), not left)
        self.figure("kill: all gone after s", time.monotonic() - begun)
        begun = host.start()
        self.figure("kill: whole again, s after the new start", self.until_whole() - begun)
        self.works_again("kill", begun)


def long(name: str) -> list[str]:
    """`name`, if it is long enough to be sought: three letters are in any megabyte of cipher text."""
    return [name] if len(name) >= 4 else []


async def break_off(
    client: ApiClient, body: JsonObject, flows: Callable[[float], None]
) -> tuple[float, PeerinferError | None]:
    """Asks for a long answer, tells when its first piece is there; returns when and with what error it ended."""
    first = True
    try:
        async for _ in client.chat(body):
            if first:
                flows(time.monotonic())
            first = False
    except PeerinferError as error:
        return time.monotonic(), error
    return time.monotonic(), None
