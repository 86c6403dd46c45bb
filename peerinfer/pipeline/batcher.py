"""The first stage's pure machine: which rows go round the ring next, and how every request ends exactly once.

It owns the slots of all stages: a slot is taken under a new generation by an order that rides in front of the
rows it concerns, so every stage sees the same sequence of events. Several steps may be under way at once (one for
each stage), so that no stage waits; a sequence has at most one decode row among them, while its prefill chunks
may follow each other without waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from peerinfer.engine.base import CloseSlot, OpenSlot, Order
from peerinfer.engine.sampler import REPETITION_WINDOW
from peerinfer.net.frames import Row
from peerinfer.pipeline.effects import Effect, EndRequest, RunStep
from peerinfer.pipeline.messages import Credit, StepDone, StepTrouble, Stop, Submit
from peerinfer.pipeline.sequence import Sequence as Answering

WAITING_MAX = 64
"""Requests that wait for a slot; beyond, a client is better told to come back."""
PREFILL_CHUNK = 128
"""Prompt tokens in one step: small enough that answers under way are not held up, and stages overlap."""
CREDIT_LAPSE_S = 30.0
"""How long a sequence without credit keeps its slot: a reader slower than this is taken for gone."""
STEP_DEADLINE_S = 120.0
"""A step that is not back by then is lost; a chunk on the slowest machine takes a few seconds per stage."""
TOKEN_MAX = 2**31 - 1
"""Token ids are int32."""
RESTARTS_MAX = 2
"""How often a request is prefilled again after a stage said `desync`; then it fails."""


@dataclass(slots=True)
class _Step:
    rows: tuple[Row, ...]
    orders: tuple[Order, ...]
    deadline: float


class Batcher:
    """Slots, waiting requests and steps under way of one instance."""

    def __init__(self, slots: int, context: int, stages: int) -> None:
        self._context = context
        self._depth = stages
        self._tenants: list[Answering | None] = [None] * slots
        self._generations = [0] * slots
        self._waiting: deque[Answering] = deque()
        self._by_id: dict[str, Answering] = {}
        self._orders: list[Order] = []
        self._steps: dict[int, _Step] = {}
        self._next_step = 0
        self._prefilled_last = False
        self._closed = False

    @property
    def active(self) -> int:
        """Slots that are taken."""
        return sum(tenant is not None for tenant in self._tenants)

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    # ---- what happens

    def submit(self, message: Submit, prompt: tuple[int, ...], gateway: str, now: float) -> tuple[Effect, ...]:
        """A gateway asks for an answer."""
        if message.request_id in self._by_id:
            return ()
        refusal = self._refusal(message, prompt)
        if refusal is not None:
            return (EndRequest(gateway, message.request_id, *refusal),)
        sequence = Answering(message, prompt, gateway, now)
        self._by_id[message.request_id] = sequence
        self._waiting.append(sequence)
        return self._schedule(now)

    def credit(self, message: Credit, gateway: str, now: float) -> tuple[Effect, ...]:
        """A gateway can take more tokens."""
        sequence = self._owned(message.request_id, gateway)
        if sequence is None or message.tokens <= 0:
            return ()
        sequence.credits += message.tokens
        sequence.starved_since = None
        return self._schedule(now)

    def stop(self, message: Stop, gateway: str, now: float) -> tuple[Effect, ...]:
        """A gateway wants no more of this request."""
        sequence = self._owned(message.request_id, gateway)
        if sequence is None:
            return ()
        self._release(sequence)
        ended = EndRequest(gateway, message.request_id, "cancelled", "The request was cancelled.")
        return (ended, *self._schedule(now))

    def step_done(self, message: StepDone, now: float) -> tuple[Effect, ...]:
        """A step went round: its sampled tokens continue their sequences."""
        step = self._steps.pop(message.step, None)
        if step is None:
            return ()
        asked = {(row.slot, row.generation) for row in step.rows if row.sample}
        for row in message.rows:
            sequence = self._tenant(row.slot, row.generation)
            if sequence is None or (row.slot, row.generation) not in asked or not 0 <= row.token <= TOKEN_MAX:
                continue
            sequence.sampled(row.token)
            if row.finish:
                self._release(sequence)
        return self._schedule(now)

    def step_trouble(self, message: StepTrouble, now: float) -> tuple[Effect, ...]:
        """A stage could not run a step: its sequences start again (`desync`) or fail."""
        step = self._steps.pop(message.step, None)
        if step is None:
            return ()
        self._repeat_closes(step)
        effects: list[Effect] = []
        for row in step.rows:
            sequence = self._tenant(row.slot, row.generation)
            if sequence is None:
                continue
            if message.code == "desync" and sequence.restarts < RESTARTS_MAX:
                self._restart(sequence)
            else:
                effects.append(self._fail(sequence, message.code, message.reason))
        return (*effects, *self._schedule(now, flush=False))

    def gateway_lost(self, gateway: str, now: float) -> tuple[Effect, ...]:
        """The link to a gateway is down: nobody is there to read its answers."""
        for sequence in [each for each in self._by_id.values() if each.gateway == gateway]:
            self._release(sequence)
        return self._schedule(now)

    def close(self, code: str, reason: str) -> tuple[Effect, ...]:
        """The instance ends or lost a stage for good: every request ends, none is taken any more."""
        self._closed = True
        return tuple(self._fail(sequence, code, reason) for sequence in list(self._by_id.values()))

    def fail_all(self, code: str, reason: str, now: float) -> tuple[Effect, ...]:
        """A stage was lost but will be back: what was under way fails, what waits may still run."""
        for step in self._steps.values():
            self._repeat_closes(step)
        self._steps.clear()
        running = [sequence for sequence in self._tenants if sequence is not None]
        effects = [self._fail(sequence, code, reason) for sequence in running]
        return (*effects, *self._schedule(now, flush=False))

    def tick(self, now: float) -> tuple[Effect, ...]:
        """Time passes: lapsed credits free their slots, lost steps fail their sequences."""
        effects: list[Effect] = []
        for sequence in [each for each in self._by_id.values() if each.starved_since is not None]:
            if now - (sequence.starved_since or now) >= CREDIT_LAPSE_S:
                reason = f"The answer was not read for {CREDIT_LAPSE_S:.0f} s, so it was stopped. Send it again."
                effects.append(self._fail(sequence, "cancelled", reason))
        for number in [number for number, step in self._steps.items() if now >= step.deadline]:
            step = self._steps.pop(number)
            self._repeat_closes(step)
            for row in step.rows:
                sequence = self._tenant(row.slot, row.generation)
                if sequence is not None:
                    reason = f"A step did not come back within {STEP_DEADLINE_S:.0f} s. Send the request again."
                    effects.append(self._fail(sequence, "stage_lost", reason))
        return (*effects, *self._schedule(now))

    # ---- decisions

    def _refusal(self, message: Submit, prompt: tuple[int, ...]) -> tuple[str, str] | None:
        if self._closed:
            return ("stage_lost", "This model is being moved or unloaded. Send the request again.")
        if not prompt or len(prompt) + 1 > self._context or message.max_tokens < 1:
            return (
                "context_length_exceeded",
                f"The prompt has {len(prompt)} tokens, and the context holds {self._context} with the answer.",
            )
        if len(self._waiting) >= WAITING_MAX:
            return ("queue_full", f"{WAITING_MAX} requests wait already. Try again in a moment.")
        return None

    def _schedule(self, now: float, flush: bool = True) -> tuple[Effect, ...]:
        """Fills free slots, then sends steps while the ring has room.

        Orders ride on the next step; when none will come they go alone, though not in answer to a failure
        (`flush` false), which would have a broken ring fail for ever: the next tick sends them.
        """
        self._admit(now)
        effects: list[Effect] = []
        while len(self._steps) < self._depth:
            rows, tokens = self._choose_rows(now)
            if not rows:
                break
            effects.append(self._send(rows, tokens, now))
        if flush and self._orders and not self._steps:
            effects.append(self._send((), (), now))
        return tuple(effects)

    def _admit(self, now: float) -> None:
        for slot, tenant in enumerate(self._tenants):
            if tenant is None and self._waiting:
                sequence = self._waiting.popleft()
                self._tenants[slot] = sequence
                self._open(sequence, slot)
                sequence.admitted = now

    def _open(self, sequence: Answering, slot: int) -> None:
        self._generations[slot] += 1
        sequence.open(slot, self._generations[slot])
        message = sequence.message
        room = self._context - len(sequence.prompt)
        self._orders.append(
            OpenSlot(
                slot=slot,
                generation=self._generations[slot],
                request_id=message.request_id,
                gateway=sequence.gateway,
                max_tokens=min(message.max_tokens, room),
                sampling=message.sampling,
                end_tokens=message.end_tokens,
                history=sequence.prompt[-REPETITION_WINDOW:],
                produced=tuple(sequence.produced),
            )
        )

    def _choose_rows(self, now: float) -> tuple[tuple[Row, ...], tuple[int, ...]]:
        """The next step's rows: prefill and decode take turns, so neither starves the other."""
        running = [tenant for tenant in self._tenants if tenant is not None]
        prefilling = [tenant for tenant in running if tenant.unsent > 1 or (tenant.unsent and not tenant.produced)]
        decoding = [tenant for tenant in running if tenant.unsent == 1 and tenant.produced]
        ready: list[Answering] = []
        for tenant in decoding:
            if tenant.credits > 0:
                ready.append(tenant)
            elif tenant.starved_since is None:
                tenant.starved_since = now
        if prefilling and not (ready and self._prefilled_last):
            self._prefilled_last = True
            first = min(prefilling, key=lambda tenant: tenant.admitted)
            return _cut([first], PREFILL_CHUNK)
        self._prefilled_last = False
        answering = sum(bool(tenant.produced) for tenant in running)
        share = -(-answering // self._depth)  # spread over the ring: one micro-batch for each stage
        return _cut(ready[:share], 1)

    def _send(self, rows: tuple[Row, ...], tokens: tuple[int, ...], now: float) -> RunStep:
        step = self._next_step
        self._next_step += 1
        orders, self._orders = tuple(self._orders), []
        self._steps[step] = _Step(rows, orders, now + STEP_DEADLINE_S)
        return RunStep(step, rows, tokens, orders)

    # ---- ends

    def _repeat_closes(self, step: _Step) -> None:
        """A lost step's orders may not have reached every stage: closing twice is harmless, not closing leaks."""
        self._orders.extend(order for order in step.orders if isinstance(order, CloseSlot))

    def _restart(self, sequence: Answering) -> None:
        """Prefills prompt and produced tokens again, under a new generation of the same slot."""
        sequence.restarts += 1
        self._open(sequence, sequence.slot)

    def _fail(self, sequence: Answering, code: str, reason: str) -> EndRequest:
        self._release(sequence)
        return EndRequest(sequence.gateway, sequence.message.request_id, code, reason)

    def _release(self, sequence: Answering) -> None:
        """Forgets a request and closes its slot on every stage."""
        del self._by_id[sequence.message.request_id]
        if sequence.slot < 0:
            self._waiting.remove(sequence)
            return
        self._tenants[sequence.slot] = None
        self._orders.append(CloseSlot(sequence.slot, sequence.generation))

    def _owned(self, request_id: str, gateway: str) -> Answering | None:
        """The request, if it is this gateway's: no other node may speak for it."""
        sequence = self._by_id.get(request_id)
        return sequence if sequence is not None and sequence.gateway == gateway else None

    def _tenant(self, slot: int, generation: int) -> Answering | None:
        if not 0 <= slot < len(self._tenants) or self._generations[slot] != generation:
            return None
        return self._tenants[slot]


def _cut(sequences: Sequence[Answering], most: int) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    rows: list[Row] = []
    tokens: list[int] = []
    for sequence in sequences:
        row, ids = sequence.take(most)
        rows.append(row)
        tokens.extend(ids)
    return tuple(rows), tuple(tokens)
