"""A ring in pure Python for tests of the batcher: real slot tables, a made-up model, faults on request."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from peerinfer.engine.base import OpenSlot, SampledToken, Sampling
from peerinfer.engine.slots import SlotTable
from peerinfer.errors import Desync
from peerinfer.net.frames import Epoch
from peerinfer.pipeline.batcher import Batcher
from peerinfer.pipeline.effects import Effect, EndRequest, RunStep
from peerinfer.pipeline.messages import SampledRow, StepDone, StepTrouble, Submit

EPOCH = Epoch(1, "00" * 16, 1)
END = 0
"""The model's end-of-generation token."""


def next_token(history: Sequence[int]) -> int:
    """The made-up model: depends on every token before; ends now and then."""
    value = 7
    for token in history:
        value = (value * 31 + token + 1) % 1009
    return value % 50


def expected_answer(prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What the model answers when it is alone."""
    out: list[int] = []
    while len(out) < max_tokens:
        out.append(next_token([*prompt, *out]))
        if out[-1] == END:
            break
    return out


def submit(request_id: str, max_tokens: int = 20, credits: int = 1000) -> Submit:
    """A request for `max_tokens`, with credit to spare."""
    return Submit(request_id, "aa" * 16, EPOCH, b"", max_tokens, Sampling(), (END,), credits)


class RingModel:
    """`stages` slot tables behind one batcher; the caller decides when a step moves."""

    def __init__(self, stages: int, slots: int, context: int) -> None:
        self.batcher = Batcher(slots, context, stages)
        self.tables = [SlotTable(slots, context) for _ in range(stages)]
        self.caches: list[dict[int, list[int]]] = [{} for _ in range(stages)]
        self.flying: deque[tuple[int, RunStep]] = deque()
        self.answers: dict[str, list[int]] = {}
        self.finished: dict[str, str] = {}
        self.steps: list[RunStep] = []
        self.ended: set[str] = set()
        self.doubles: list[str] = []

    def do(self, effects: Sequence[Effect]) -> None:
        """Carries effects out: steps start to fly, ends are noted once."""
        for effect in effects:
            if isinstance(effect, EndRequest):
                if effect.request_id in self.ended:
                    self.doubles.append(effect.request_id)
                self.ended.add(effect.request_id)
                self.finished.setdefault(effect.request_id, effect.code)
            else:
                self.steps.append(effect)
                self.flying.append((0, effect))

    def move(self, now: float = 0.0, fail: tuple[int, str] | None = None) -> bool:
        """The oldest flying step goes through all stages and its result comes back. `fail`: (stage, code)."""
        if not self.flying:
            return False
        _, step = self.flying.popleft()
        for number, table in enumerate(self.tables):
            if fail is not None and fail[0] == number:
                self.do(self.batcher.step_trouble(self._trouble(step, number, fail[1]), now))
                return True
            try:
                self._run(number, table, step)
            except Desync:
                self.do(self.batcher.step_trouble(self._trouble(step, number, "desync"), now))
                return True
        self.do(self.batcher.step_done(StepDone("aa" * 16, EPOCH, step.step, self._sample(step)), now))
        return True

    def lose_state(self, stage: int, slots: int, context: int) -> None:
        """A stage's process died and came back empty."""
        self.tables[stage] = SlotTable(slots, context)
        self.caches[stage] = {}

    def drain(self, now: float = 0.0) -> None:
        """Moves until nothing flies."""
        for _ in range(100_000):
            if not self.move(now):
                return
        raise AssertionError("the ring never comes to rest")

    def _run(self, number: int, table: SlotTable, step: RunStep) -> None:
        cache = self.caches[number]
        for order in step.orders:
            effect = table.obey(order)
            if effect is not None:
                cache[effect.slot] = cache.get(effect.slot, [])[: effect.length]
            if isinstance(order, OpenSlot) and number == len(self.tables) - 1:
                self.answers.setdefault(order.request_id, [])
        table.check(step.rows)
        at = 0
        for row in step.rows:
            cache.setdefault(row.slot, []).extend(step.tokens[at : at + row.count])
            at += row.count
        table.advance(step.rows)

    def _sample(self, step: RunStep) -> tuple[SampledRow, ...]:
        rows: list[SampledRow] = []
        for row in step.rows:
            if not row.sample:
                continue
            sampled = self.tables[-1].sampled(row, next_token(self.caches[-1][row.slot]))
            rows.append(SampledRow(row.slot, row.generation, sampled.token, sampled.finish))
            if sampled.request_id not in self.finished:  # as a gateway, which is deaf once an answer has ended
                self._tell_gateway(sampled)
        return tuple(rows)

    def _tell_gateway(self, sampled: SampledToken) -> None:
        answer = self.answers[sampled.request_id]
        if sampled.index != len(answer):
            self.doubles.append(sampled.request_id)
        answer.append(sampled.token)
        if sampled.finish:
            self.finished[sampled.request_id] = sampled.finish

    def _trouble(self, step: RunStep, stage: int, code: str) -> StepTrouble:
        return StepTrouble("aa" * 16, EPOCH, step.step, stage, code, "made up")
