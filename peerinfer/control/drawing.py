"""From what is wanted and what stands to stages and a forecast: the leader's one way to a plan. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from peerinfer.control.advice import Advice
from peerinfer.control.engines import engine_for
from peerinfer.control.members import Members, named
from peerinfer.control.planning import Wishes, is_here
from peerinfer.control.problems import Standing, is_possible, problem_of
from peerinfer.control.state import Forecast, Instance, StagePlace
from peerinfer.errors import NoPlacement
from peerinfer.gossip.snapshot import HeldModel
from peerinfer.placement.explain import summary
from peerinfer.placement.fixed import place_fixed
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Part, Plan
from peerinfer.placement.problem import Problem

UNMEASURED: Final = "How fast its nodes run such a model was not measured yet; they were compared by guesses."


@dataclass(frozen=True, slots=True)
class Drawn:
    """Stages for a model, what is expected of them, and the plan and problem behind them."""

    stages: tuple[StagePlace, ...]
    forecast: Forecast
    plan: Plan
    problem: Problem


@dataclass(frozen=True, slots=True)
class Table:
    """What a leader sees when it plans."""

    members: Members
    obeying: Collection[str]
    advice: Advice

    def draw(
        self,
        model: HeldModel,
        wishes: Wishes,
        now: float,
        *,
        standing: Sequence[Instance] = (),
        leaving: Sequence[Instance] = (),
        first: str = "",
        is_strict: bool = False,
        is_quick: bool = False,
    ) -> Drawn:
        """A plan on the nodes that obey; those that should be left out for now are taken only if it must be.

        `is_strict` never takes them, `is_quick` asks no solver. The memory of what is `leaving` counts as free, that of
        `standing` does not.
        Raises `StillPlanning`, `NoPlacement` or `BadRequest` with a sentence.
        """
        if not is_here(model, self.members):
            raise NoPlacement(
                f"The nodes that are up do not have all of {model.name} together. "
                "Switch on the node that has it, or pull it again."
            )
        if not is_possible(model):
            raise NoPlacement(f"What the nodes say of {model.name} cannot be. Pull it again.")
        if wishes.stages:  # a person named the nodes: he knows
            return self._fixed(model, wishes, Standing(standing, leaving))
        look = partial(
            problem_of, model, wishes, self.members, Standing(standing, leaving), obeying=self.obeying, first=first
        )
        strict = look()
        try:
            return self.drawn(model, strict, self.advice.quick(strict) if is_quick else self.advice.best(strict, now))
        except NoPlacement:
            if is_strict:
                raise
        lenient = look(is_lenient=True)
        return self.drawn(model, lenient, self.advice.best(lenient, now))

    def drawn(self, model: HeldModel, problem: Problem, plan: Plan) -> Drawn:
        """A plan for a model as the mesh knows it."""
        engines = {member.node: engine_for(member.snapshot, model) for member in self.members if member.snapshot}
        accelerated = {node.node: len(node.devices) > 1 for node in problem.nodes}
        stages = tuple(
            StagePlace(
                one.node,
                engines[one.node],
                one.first_layer,
                one.last_layer,
                one.accelerated if accelerated[one.node] else None,
            )
            for one in plan.stages
        )
        return Drawn(stages, self._forecast(problem, plan), plan, problem)

    def _fixed(self, model: HeldModel, wishes: Wishes, standing: Standing) -> Drawn:
        problem = problem_of(model, wishes, self.members, standing, obeying=self.obeying, is_lenient=True)
        return self.drawn(model, problem, place_fixed(problem, wishes.stages))

    def _forecast(self, problem: Problem, plan: Plan) -> Forecast:
        predicted = plan.predicted
        is_known = all(part.us > 0 for part in predicted.parts if not part.target)
        is_known &= not any(
            problem.node(one.node).is_guessed(one.last_layer - one.first_layer, one.accelerated) for one in plan.stages
        )
        return Forecast(
            tokens_per_s=predicted.tokens_per_s if is_known else 0.0,
            ttft_ms=(predicted.ttft_us or 0.0) / 1000 if is_known else 0.0,
            bottleneck=self._in_words(predicted.bottleneck, predicted.token_us) if is_known else "",
            solver=plan.solver,
            is_optimal=plan.is_optimal,
            why=summary(problem, plan, place) if is_known else UNMEASURED,
        )

    def _in_words(self, part: Part, token_us: float) -> str:
        where = named(self.members, part.node)
        if part.target:
            where = f"{where} → {named(self.members, part.target)}"
        return f"{where}: {part.us / 1000:.1f} of {token_us / 1000:.1f} ms per token"
