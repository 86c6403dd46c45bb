"""The solver's answers: asked for once, waited for a while, judged by the numbers of now, and never trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.advice import FRESH_S, PATIENCE_S, QUESTIONS_MAX, Advice, StillPlanning, is_surely_short
from peerinfer.control.wish_desk import WAITING_MAX
from peerinfer.errors import NoPlacement
from peerinfer.placement.costs import placed, predict
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Compute, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room
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
    for number in range(2 * QUESTIONS_MAX):
        with pytest.raises(StillPlanning):
            advice.best(replace(UNLIKE, room=Room(1, 2 + number), model=replace(MODEL, layers=12)), 20.0)
    assert len(advice.take_questions()) == 2 * QUESTIONS_MAX + 1
    advice.clear()
    assert not advice.answered(question.number + 1, None)


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
