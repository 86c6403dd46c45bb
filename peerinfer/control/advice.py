"""What the solver says: asked for in the background, while the machines of control go on. Pure.

A plan is wanted at once, a solver takes its time. So the first look at a problem puts a question and raises
`StillPlanning`, upon which whoever wanted the plan looks again; the answer, or the end of patience, is there then. An
answer is judged by the numbers as they are when it is used, never trusted, and never better than its own proof.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from peerinfer.control.effects import SolvePlacement
from peerinfer.errors import NoLeader, NoPlacement
from peerinfer.placement.costs import fault, placed, predict
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Plan, bytes_per_layer
from peerinfer.placement.problem import Problem

PATIENCE_S: Final = 4.0
"""A solver that has not answered by then is not waited for: twice its own limit."""
FRESH_S: Final = 8.0
"""An answer is used for so long: free memory and links are others a little later."""
SHORT_S: Final = 60.0
"""The same where no plan is known: who tries one wish after the other, each for all his patience, comes to the end of
them before the first is asked anew."""
QUESTIONS_MAX: Final = 32
"""Problems that are remembered: each model that is loaded or looked at has one or two. What would be asked besides so
many that are open is left to the quick planner."""
EQUAL_SHARE: Final = 1e-3
"""Plans that differ by less are equally good; then the solver's stands, with its proof."""

Key = tuple[object, ...]


class StillPlanning(NoLeader):
    """The solver was asked; look again in a moment."""


@dataclass(slots=True)
class _Asked:
    number: int
    at: float
    is_open: bool = True
    plan: Plan | None = None

    def is_awaited(self, now: float) -> bool:
        """Whether there is no answer yet, and patience is not at its end."""
        return self.is_open and now - self.at < PATIENCE_S


class Advice:
    """Questions to the solver and its answers, by what was asked."""

    def __init__(self) -> None:
        self._asked: dict[Key, _Asked] = {}
        self._questions: list[SolvePlacement] = []
        self._count = 0

    def clear(self) -> None:
        """Nobody waits for anything any more."""
        self._asked.clear()
        self._questions.clear()

    def take_questions(self) -> tuple[SolvePlacement, ...]:
        """What is to be asked now."""
        questions, self._questions = tuple(self._questions), []
        return questions

    def answered(self, number: int, plan: Plan | None) -> bool:
        """The solver's answer; None if it has none. Returns whether somebody waited for it."""
        asked = next((one for one in self._asked.values() if one.number == number and one.is_open), None)
        if asked is None:
            return False
        asked.is_open, asked.plan = False, plan
        return True

    def best(self, problem: Problem, now: float) -> Plan:
        """The best plan that is known. Raises `StillPlanning`, or `NoPlacement` if there is none."""
        quick, trouble = _quick(problem)
        if quick is not None and quick.solver == "rule":
            return quick
        if quick is None and is_surely_short(problem):
            raise NoPlacement(trouble)
        asked = self._ask(problem, quick is not None, now)
        if asked.is_awaited(now):
            raise StillPlanning("The leader still computes where the layers shall go.")
        plans = [plan for plan in (_judged(problem, asked.plan), quick) if plan is not None]
        if not plans:
            raise NoPlacement(trouble)
        least = min(_cost(problem, plan) for plan in plans)
        return next(plan for plan in plans if _cost(problem, plan) <= least * (1 + EQUAL_SHARE))

    @staticmethod
    def quick(problem: Problem) -> Plan:
        """A good plan at once, for whoever only looks whether a question is worth it. Raises `NoPlacement`."""
        plan, trouble = _quick(problem)
        if plan is None:
            raise NoPlacement(trouble)
        return plan

    def _ask(self, problem: Problem, has_quick: bool, now: float) -> _Asked:
        key = (has_quick, *_key(problem))
        asked = self._asked.get(key)
        if asked is not None and now - asked.at <= (FRESH_S if has_quick else SHORT_S):
            return asked
        self._asked.pop(key, None)
        if not self._has_room(now):
            return _Asked(0, now, is_open=False)
        self._count += 1
        asked = self._asked[key] = _Asked(self._count, now)
        self._questions.append(SolvePlacement(self._count, problem))
        return asked

    def _has_room(self, now: float) -> bool:
        """Lets go of the oldest questions that nobody waits for; never of one that somebody would put again at once."""
        settled = [key for key, asked in self._asked.items() if not asked.is_awaited(now)]
        for key in settled[: max(0, len(self._asked) + 1 - QUESTIONS_MAX)]:
            del self._asked[key]
        return len(self._asked) < QUESTIONS_MAX


def is_surely_short(problem: Problem) -> bool:
    """Whether no way to cut and order could fit, so that no solver needs to be asked."""
    model, room = problem.model, problem.room
    if not problem.nodes or problem.min_nodes > min(len(problem.nodes), len(model.cuts()) - 1):
        return True
    each = max(1, bytes_per_layer(model, room))
    layers = (sum(device.memory_bytes // each for device in node.devices) for node in problem.nodes)
    return sum(layers) < model.layers


@lru_cache(maxsize=QUESTIONS_MAX)
def _quick(problem: Problem) -> tuple[Plan | None, str]:
    try:
        return place(problem), ""
    except NoPlacement as error:
        return None, str(error)


def _judged(problem: Problem, answer: Plan | None) -> Plan | None:
    """The answer by the numbers of now; None if it does not hold any more."""
    if answer is None or fault(problem, answer.stages):
        return None
    renewed = [placed(problem, one.node, one.first_layer, one.last_layer) for one in answer.stages]
    stages = tuple(stage for stage in renewed if stage is not None)
    return replace(answer, stages=stages, predicted=predict(problem, stages))


def _cost(problem: Problem, plan: Plan) -> float:
    """What the policy minimises."""
    if problem.policy == "spread":
        return max(stage.memory_bytes / max(1, problem.node(stage.node).memory_bytes) for stage in plan.stages)
    return plan.predicted.pace_us if problem.policy == "throughput" else plan.predicted.token_us


def _key(problem: Problem) -> Key:
    """What makes two problems the same question: not the free memory, which is another at each look."""
    nodes = tuple(sorted(node.node for node in problem.nodes))
    return (problem.model, problem.room, problem.policy, problem.min_nodes, problem.first, nodes)
