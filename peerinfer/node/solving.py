"""The solver for the leader: one planner of this node, asked in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from peerinfer.errors import NoPlacement
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from peerinfer.placement.service import Planner

log = logging.getLogger(__name__)


class Solver:
    """`control.surroundings.Solve` over a `Planner`."""

    def __init__(self) -> None:
        self.planner = Planner()
        self._tasks: set[asyncio.Task[None]] = set()

    def solve(self, problem: Problem, answer: Callable[[Plan | None], None]) -> None:
        """Has `answer` called with the plan when there is one; None if there is none."""
        task = asyncio.get_running_loop().create_task(self._solve(problem, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ends the solver's child and whatever is still asked."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.planner.stop()

    async def _solve(self, problem: Problem, answer: Callable[[Plan | None], None]) -> None:
        plan: Plan | None = None
        try:
            plan = await self.planner.solve(problem)
        except NoPlacement:
            pass  # the quick planner found nothing either: its sentence is told
        except Exception:
            log.exception("The planner failed; the quick plan stands.")
        answer(plan)
