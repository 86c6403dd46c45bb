"""The batcher against a made-up ring: every request ends exactly once, with the tokens it would get alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.pipeline.batcher import CREDIT_LAPSE_S, PREFILL_CHUNK, STEP_DEADLINE_S, WAITING_MAX
from peerinfer.pipeline.effects import RunStep
from peerinfer.pipeline.messages import Credit, SampledRow, StepDone, Stop
from tests.pipeline.ring_model import EPOCH, RingModel, expected_answer, submit

GATEWAY = "gg"
CONTEXT = 600


def prompt_of(seed: int, length: int) -> tuple[int, ...]:
    chance = random.Random(seed)
    return tuple(chance.randrange(1, 50) for _ in range(length))


def ask(ring: RingModel, name: str, prompt: tuple[int, ...], max_tokens: int = 20, credits: int = 1000) -> None:
    ring.do(ring.batcher.submit(submit(name, max_tokens, credits), prompt, GATEWAY, 0.0))


@settings(deadline=None, max_examples=150)
@given(
    stages=st.integers(1, 4),
    slots=st.integers(1, 4),
    requests=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 40)), min_size=1, max_size=9),
    seed=st.integers(0, 2**32),
)
def test_answers_equal_those_of_a_ring_alone(
    stages: int, slots: int, requests: list[tuple[int, int]], seed: int
) -> None:
    ring = RingModel(stages, slots, CONTEXT)
    chance = random.Random(seed)
    for number, (length, wanted) in enumerate(requests):
        ask(ring, f"r{number}", prompt_of(number, length), wanted)
        for _ in range(chance.randrange(4)):
            ring.move()
    ring.drain()
    for number, (length, wanted) in enumerate(requests):
        room = min(wanted, CONTEXT - length)
        assert ring.answers[f"r{number}"] == expected_answer(prompt_of(number, length), room)
        assert ring.finished[f"r{number}"] in {"stop", "length"}
    assert not ring.doubles
    assert ring.batcher.active == 0
    assert [table.occupied for table in ring.tables] == [0] * stages


@settings(deadline=None, max_examples=150)
@given(
    stages=st.integers(1, 4),
    faults=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.booleans()), max_size=6),
    seed=st.integers(0, 2**32),
)
def test_whatever_is_lost_every_request_ends_once_and_no_slot_leaks(
    stages: int, faults: list[tuple[int, int, bool]], seed: int
) -> None:
    """Processes die, steps fail, clients stop, at any moment: an answer is right as far as it goes, and ends once."""
    slots = 3
    ring = RingModel(stages, slots, CONTEXT)
    chance = random.Random(seed)
    prompts = {f"r{number}": prompt_of(number, chance.randrange(1, 300)) for number in range(6)}
    for name, prompt in prompts.items():
        ask(ring, name, prompt)
    planned = {at: (stage % stages, whole) for at, stage, whole in faults}
    for at in range(400):
        fault = planned.get(at)
        if fault is not None and fault[1]:
            ring.lose_state(fault[0], slots, CONTEXT)
        code = "engine_died" if fault is not None and not fault[1] else None
        if at == 17:
            ring.do(ring.batcher.stop(Stop("r2", "aa" * 16), GATEWAY, 0.0))
        if not ring.move(fail=None if code is None or fault is None else (fault[0], code)):
            break
    ring.drain()
    ring.do(ring.batcher.tick(1.0))
    ring.drain()
    assert set(ring.finished) == set(prompts)
    assert not ring.doubles
    for name, prompt in prompts.items():
        whole = expected_answer(prompt, 20)
        answer = ring.answers.get(name, [])
        assert answer == whole[: len(answer)]
        if ring.finished[name] in {"stop", "length"}:
            assert answer == whole
    assert ring.batcher.active == 0
    assert [table.occupied for table in ring.tables] == [0] * stages


def test_a_stage_that_lost_its_state_is_prefilled_again() -> None:
    ring = RingModel(2, 1, CONTEXT)
    ask(ring, "a", prompt_of(1, 30), 12)
    for _ in range(5):
        ring.move()
    ring.lose_state(1, 1, CONTEXT)
    ring.drain()
    assert ring.answers["a"] == expected_answer(prompt_of(1, 30), 12)


def test_every_stage_has_work_when_many_answer() -> None:
    ring = RingModel(2, 8, CONTEXT)
    for number in range(8):
        ask(ring, f"r{number}", prompt_of(number, 5), 500)
    for _ in range(40):
        ring.move()
    sizes = [len(step.rows) for step in ring.steps[-6:]]
    assert len(ring.flying) == 2
    assert max(sizes) <= 4


def test_prefill_does_not_starve_answers_under_way() -> None:
    ring = RingModel(1, 2, 4000)
    ask(ring, "short", (5,), 100)
    ring.move()
    ask(ring, "long", prompt_of(2, 10 * PREFILL_CHUNK), 5)
    kinds = [len(step.tokens) for step in ring.steps]
    for _ in range(8):
        ring.move()
        kinds = [len(step.tokens) for step in ring.steps]
    assert kinds[-6:] in ([1, PREFILL_CHUNK] * 3, [PREFILL_CHUNK, 1] * 3)


@pytest.mark.parametrize("length", [PREFILL_CHUNK + 1, 2 * PREFILL_CHUNK + 1, 2, 3])
def test_no_single_token_is_left_over_from_a_prompt(length: int) -> None:
    ring = RingModel(1, 1, CONTEXT)
    ask(ring, "a", prompt_of(3, length), 1)
    ring.drain()
    assert min(step.rows[0].count for step in ring.steps if step.rows) > 1


def test_credit_is_kept_and_lapses() -> None:
    ring = RingModel(1, 1, CONTEXT)
    ask(ring, "a", prompt_of(1, 4), 500, credits=3)
    ring.drain(now=1.0)
    assert len(ring.answers["a"]) == 3
    ring.do(ring.batcher.credit(Credit("a", "aa" * 16, 2), GATEWAY, 2.0))
    ring.drain(now=2.0)
    assert len(ring.answers["a"]) == 5
    ring.do(ring.batcher.tick(2.0 + CREDIT_LAPSE_S - 0.1))
    assert "a" not in ring.finished
    ring.do(ring.batcher.tick(2.0 + CREDIT_LAPSE_S))
    ring.drain()
    assert ring.finished["a"] == "cancelled"
    assert ring.tables[0].occupied == 0


def test_only_the_gateway_of_a_request_may_steer_it() -> None:
    ring = RingModel(1, 1, CONTEXT)
    ask(ring, "a", prompt_of(1, 4))
    ring.do(ring.batcher.stop(Stop("a", "aa" * 16), "somebody else", 0.0))
    ring.drain()
    assert ring.answers["a"] == expected_answer(prompt_of(1, 4), 20)


def test_a_lost_gateway_frees_its_slots_and_nobody_elses() -> None:
    ring = RingModel(2, 2, CONTEXT)
    ask(ring, "a", prompt_of(1, 4), 300)
    ring.do(ring.batcher.submit(submit("b", 30), prompt_of(2, 4), "other", 0.0))
    ring.move()
    ring.do(ring.batcher.gateway_lost(GATEWAY, 0.0))
    ring.drain()
    assert ring.answers["b"] == expected_answer(prompt_of(2, 4), 30)
    assert ring.batcher.active == 0


def test_refusals_are_told_with_a_code() -> None:
    ring = RingModel(1, 1, 10)
    ask(ring, "long", prompt_of(1, 10))
    assert ring.finished["long"] == "context_length_exceeded"
    for number in range(WAITING_MAX + 1):
        ask(ring, f"r{number}", (1, 2))
    ask(ring, "late", (1, 2))
    assert ring.finished["late"] == "queue_full"
    ring.do(ring.batcher.close("stage_lost", "gone"))
    ask(ring, "after", (1, 2))
    assert ring.finished["after"] == "stage_lost"
    assert len(ring.finished) == WAITING_MAX + 4


def test_a_step_that_never_comes_back_fails_its_request() -> None:
    ring = RingModel(1, 1, CONTEXT)
    ask(ring, "a", prompt_of(1, 4))
    ring.flying.clear()
    ring.do(ring.batcher.tick(STEP_DEADLINE_S))
    ring.drain()
    assert ring.finished["a"] == "stage_lost"
    ask(ring, "b", prompt_of(1, 4))
    ring.drain()
    assert ring.answers["b"] == expected_answer(prompt_of(1, 4), 20)


@pytest.mark.parametrize("token", [-1, 2**31, 2**40])
def test_results_that_cannot_be_are_not_taken(token: int) -> None:
    """A faulty last stage says a token that is none, or one for a slot that did not ask: neither does harm."""
    ring = RingModel(1, 2, CONTEXT)
    ask(ring, "a", prompt_of(1, 4))
    ask(ring, "b", prompt_of(2, 4))
    (_, step), _ = ring.flying.popleft(), ring.flying.clear()
    row = step.rows[0]
    other = SampledRow(1 - row.slot, 1, 5, "")
    done = StepDone("aa" * 16, EPOCH, step.step, (SampledRow(row.slot, row.generation, token, ""), other))
    effects = ring.batcher.step_done(done, 0.0)
    tokens = [token for effect in effects if isinstance(effect, RunStep) for token in effect.tokens]
    assert tokens == list(prompt_of(2, 4))
