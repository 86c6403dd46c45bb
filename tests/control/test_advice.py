"""The solver's answers: asked for once, waited for a while, judged by the numbers of now, and never trusted."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.control.advice import FRESH_S, PATIENCE_S, QUESTIONS_MAX, Advice, StillPlanning, is_surely_short
from peerinfer.control.wish_desk import WAITING_MAX
from peerinfer.errors import NoPlacement
from peerinfer.placement.costs import fault, placed, predict
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import PlacedStage, Plan
from peerinfer.placement.problem import Compute, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room
from peerinfer.placement.ranking import objective
from tests.control.cluster import GB
from tests.control.led import LOAD, TOLD, A, leading, members, replies

MODEL = ModelNumbers(12, 10, 0, 0, 0, None, 100)
LINK = LinkNumbers("", "", 50.0)
SLOW, FAST = NodeNumbers("a", "slow", (Compute(80, 300.0),)), NodeNumbers("b", "fast", (Compute(80, 100.0),))
UNLIKE = Problem(MODEL, Room(1, 1), (SLOW, FAST), default_link=LINK)


def plan(problem: Problem, *stages: tuple[str, int, int], solver: str = "cp-sat") -> Plan:
    found = tuple(stage for one in stages if (stage := placed(problem, *one)) is not None)
    return Plan(found, predict(problem, found), solver, True)


def shape(found: Plan) -> list[tuple[str, int, int]]:
    return [(stage.node, stage.first_layer, stage.last_layer) for stage in found.stages]


def test_equal_nodes_need_no_solver() -> None:
    advice = Advice()
    alike = replace(UNLIKE, nodes=(FAST, replace(FAST, node="c", name="other")))
    assert advice.best(alike, 0.0).solver == "rule"
    assert advice.take_questions() == ()


def test_a_question_is_put_once_and_its_answer_used() -> None:
    advice = Advice()
    for now in (0.0, 0.5):
        with pytest.raises(StillPlanning):
            advice.best(UNLIKE, now)
    (question,) = advice.take_questions()
    assert advice.take_questions() == ()
    assert advice.answered(question.number, plan(UNLIKE, ("b", 0, 8), ("a", 8, 12)))
    assert not advice.answered(question.number, None), "nobody waits any more"
    assert not advice.answered(99, None)
    best = advice.best(UNLIKE, 1.0)
    assert (best.solver, shape(best)) == ("cp-sat", [("b", 0, 8), ("a", 8, 12)])


def test_patience_ends_and_the_quick_plan_stands() -> None:
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    assert advice.best(UNLIKE, PATIENCE_S).solver == "greedy"


def test_an_answer_is_judged_by_the_numbers_of_now() -> None:
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    (question,) = advice.take_questions()
    worse = plan(UNLIKE, ("a", 0, 8), ("b", 8, 12))
    advice.answered(question.number, worse)
    assert advice.best(UNLIKE, 1.0).solver == "greedy", "the quick plan is better"
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    (question,) = advice.take_questions()
    advice.answered(question.number, plan(UNLIKE, ("b", 0, 8), ("a", 8, 12)))
    smaller = replace(UNLIKE, nodes=(SLOW, replace(FAST, devices=(Compute(50, 100.0),))))
    assert shape(advice.best(smaller, 1.0)) == shape(place(smaller)), "it does not fit any more"


def test_an_answer_grows_old_and_old_questions_are_let_go() -> None:
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    (question,) = advice.take_questions()
    advice.answered(question.number, None)
    assert advice.best(UNLIKE, 1.0).solver == "greedy"
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, FRESH_S + 1)
    (again,) = advice.take_questions()
    assert advice.answered(again.number, None)
    advice.clear()
    assert not advice.answered(again.number, None)


def test_more_open_questions_than_are_remembered_are_left_to_the_quick_planner_and_all_come_to_an_end() -> None:
    advice = Advice()
    many = [replace(UNLIKE, room=Room(1, 2 + number)) for number in range(2 * QUESTIONS_MAX)]
    for problem in many[:QUESTIONS_MAX]:
        with pytest.raises(StillPlanning):
            advice.best(problem, 0.0)
    assert advice.best(many[-1], 0.5).solver == "greedy"
    questions = advice.take_questions()
    assert len(questions) == QUESTIONS_MAX
    for question in questions:
        advice.answered(question.number, None)
    assert [advice.best(problem, 1.0).solver for problem in many[:QUESTIONS_MAX]] == ["greedy"] * QUESTIONS_MAX
    assert advice.take_questions() == (), "nobody had to ask again"
    for problem in many[QUESTIONS_MAX:]:  # those that were answered give way
        with pytest.raises(StillPlanning):
            advice.best(problem, 1.5)
    assert len(advice.take_questions()) == QUESTIONS_MAX


def all_refused(advice: Advice, problems: list[Problem], now: float) -> bool:
    """Tries one after the other, as a leader does; whether it comes to the end of them."""
    try:
        for problem in problems:
            with pytest.raises(NoPlacement):
                advice.best(problem, now)
    except StillPlanning:
        return False
    return True


@pytest.mark.parametrize("answer_s", [0.5, 2.0, 3.9, 1e9])
def test_who_tries_wish_after_wish_comes_to_the_end_however_slow_the_solver_is(answer_s: float) -> None:
    """What no quick plan fits, and might fit somehow, takes the solver all its time: each time, for each wish."""
    hard = replace(UNLIKE, model=replace(MODEL, legal_cuts=(2, 3)))
    ways = [replace(hard, room=Room(1, slots)) for slots in range(10, 0, -1)]
    advice, now = Advice(), 0.0
    waiting: list[tuple[float, int]] = []
    while not all_refused(advice, ways, now):
        waiting += [(now + answer_s, question.number) for question in advice.take_questions()]
        now += 0.5
        assert now < 60.0
        for number in [number for due, number in waiting if due <= now]:
            advice.answered(number, None)
    assert len(waiting) == len(ways), "each was asked once"


def test_where_there_was_no_plan_and_is_one_now_the_solver_is_asked_anew() -> None:
    hard = replace(UNLIKE, model=replace(MODEL, legal_cuts=(2, 3)))
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(hard, 0.0)
    (question,) = advice.take_questions()
    advice.answered(question.number, None)
    roomier = replace(hard, nodes=(SLOW, replace(FAST, devices=(Compute(100, 100.0),))))
    assert place(roomier)
    with pytest.raises(StillPlanning):
        advice.best(roomier, 1.0)
    (question,) = advice.take_questions()
    assert question.problem == roomier


UNSOUND = (
    [("b", 0, 8)],
    [("b", 0, 8), ("a", 9, 12)],
    [("b", 0, 8), ("b", 8, 12)],
    [("b", 0, 8), ("x", 8, 12)],
    [("b", 0, 12)],
    [],
)


@pytest.mark.parametrize("stages", UNSOUND)
def test_an_unsound_answer_is_dropped(stages: list[tuple[str, int, int]]) -> None:
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    (question,) = advice.take_questions()
    lie = replace(place(UNLIKE), stages=tuple(PlacedStage(*stage, 1) for stage in stages), solver="liar")
    assert advice.answered(question.number, lie)
    assert advice.best(UNLIKE, 1.0) == place(UNLIKE)


def test_what_an_answer_promises_is_computed_anew() -> None:
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    (question,) = advice.take_questions()
    quick = place(UNLIKE)
    worse = plan(UNLIKE, ("a", 0, 8), ("b", 8, 12))
    boast = replace(worse, predicted=replace(worse.predicted, token_us=1.0, pace_us=1.0, tokens_per_s=1e6))
    advice.answered(question.number, boast)
    assert advice.best(UNLIKE, 1.0) == quick


def test_an_answer_that_comes_when_patience_has_ended_is_used_by_the_next_look() -> None:
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(UNLIKE, 0.0)
    (question,) = advice.take_questions()
    assert advice.best(UNLIKE, PATIENCE_S).solver == "greedy"
    assert advice.answered(question.number, plan(UNLIKE, ("b", 0, 8), ("a", 8, 12)))
    assert advice.best(UNLIKE, PATIENCE_S + 1).solver == "cp-sat"


layer_us = st.floats(10, 1000)
room_layers = st.integers(0, 14)


@given(
    st.lists(st.tuples(layer_us, room_layers), min_size=2, max_size=4),
    st.lists(st.tuples(layer_us, room_layers), min_size=2, max_size=4),
    st.sampled_from(["latency", "throughput", "spread"]),
)
def test_whatever_changed_since_it_was_asked_an_answer_is_sound_and_no_worse_than_the_quick_one(
    before: list[tuple[float, int]], after: list[tuple[float, int]], policy: str
) -> None:
    def problem(nodes: list[tuple[float, int]]) -> Problem:
        told = ((name, us, room) for name, (us, room) in zip("abcd", nodes, strict=False))
        each = tuple(NodeNumbers(name, name, (Compute(room * 10, us),)) for name, us, room in told)
        return replace(UNLIKE, nodes=each, policy=policy)

    advice, asked, now = Advice(), problem(before), problem(after)
    with contextlib.suppress(StillPlanning, NoPlacement):
        advice.best(asked, 0.0)
    for question in advice.take_questions():
        with contextlib.suppress(NoPlacement):
            advice.answered(question.number, place(question.problem))
    try:
        found = advice.best(now, 1.0)
    except StillPlanning:
        assert len(before) != len(after) or place(now), "it is another question"
        return
    except NoPlacement:
        with pytest.raises(NoPlacement):
            place(now)
        return
    assert fault(now, found.stages) == ""
    assert found.predicted == predict(now, found.stages)
    quick = place(now)
    assert objective(now, found.stages, found.predicted) <= objective(now, quick.stages, quick.predicted) * 1.001


def test_only_what_might_fit_somehow_is_asked() -> None:
    short = replace(UNLIKE, nodes=(SLOW, replace(FAST, devices=(Compute(30, 100.0),))))
    with pytest.raises(NoPlacement, match="are short"):
        Advice().best(short, 0.0)
    assert is_surely_short(replace(UNLIKE, nodes=()))
    assert is_surely_short(replace(UNLIKE, min_nodes=3))
    odd = replace(UNLIKE, model=replace(MODEL, legal_cuts=(2, 3)), nodes=(SLOW, FAST))
    assert not is_surely_short(odd)
    advice = Advice()
    with pytest.raises(StillPlanning):
        advice.best(odd, 0.0)
    (question,) = advice.take_questions()
    advice.answered(question.number, None)
    with pytest.raises(NoPlacement, match="no way to cut it fits"):
        advice.best(odd, 1.0)


def test_by_throughput_and_spread_the_answer_is_judged_as_well() -> None:
    for policy in ("throughput", "spread"):
        problem = replace(UNLIKE, policy=policy)
        advice = Advice()
        with pytest.raises(StillPlanning):
            advice.best(problem, 0.0)
        (question,) = advice.take_questions()
        advice.answered(question.number, place(problem))
        assert shape(advice.best(problem, 1.0)) == shape(place(problem))


def test_requests_that_wait_for_a_plan_are_bounded() -> None:
    unlike = (*members(A), *members("b" * 32, told=replace(TOLD, memory_bytes=7 * GB)))
    leader = leading(A, "b" * 32)
    leader.see(unlike, frozenset({A, "b" * 32}), 6.0)
    for number in range(WAITING_MAX):
        request = replace(LOAD, request_id=f"r{number}", digest=LOAD.digest, min_nodes=2)
        assert replies(leader.receive(A, request, 6.0)) == []
    (refused,) = replies(leader.receive(A, replace(LOAD, request_id="one more", min_nodes=2), 6.0))
    assert refused.code == "no_leader"
    leader.resign()
    assert leader.solved(1, None, 7.0) == ()


def test_a_quick_look_asks_nobody() -> None:
    assert Advice.quick(UNLIKE).solver == "greedy"
    with pytest.raises(NoPlacement, match="No node can hold"):
        Advice.quick(replace(UNLIKE, nodes=()))
