"""The ears of one node, on a clock of listened time."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from peerinfer.gossip.hearing import (
    Hearing,
)
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.messages import AskHeard, Heard
from peerinfer.net.effects import SendTo

ME, X, B, C = "me", "x", "b", "c"
TICK_S = 0.25


class Ears:
    """A `Hearing` with its clock."""

    def __init__(self, *members: str, seed: int = 1) -> None:
        self.now = 1000.0
        self.hearing = Hearing(ME, random.Random(seed), self.now)
        self.hearing.see(frozenset({ME, *members}), self.now)
        self.asked: list[SendTo] = []

    def hear(self, *nodes: str, incarnation: int = 1) -> None:
        for node in nodes:
            self.hearing.heard(node, incarnation, self.now)

    def listen(
        self,
        seconds: float,
        *,
        hearing: Collection[str] = (),
        step_s: float = TICK_S,
        answer: Callable[[SendTo], Heard | None] = lambda _: None,
    ) -> list[SendTo]:
        """Ticks for so long; gives the questions that were asked meanwhile."""
        end = self.now + seconds
        asked: list[SendTo] = []
        while self.now < end - 1e-9:
            self.now += step_s
            self.hear(*hearing)
            self.hearing.tick(self.now)
            questions = self.hearing.ask(sorted(hearing))
            for question in questions:
                if (heard := answer(question)) is not None:
                    self.hearing.told(question.node, heard)
            asked += questions
        return asked

    def state(self, node: str) -> Liveness:
        return self.hearing.liveness(node, self.now)


def question(sent: SendTo) -> AskHeard:
    assert isinstance(sent.message, AskHeard)
    return sent.message
