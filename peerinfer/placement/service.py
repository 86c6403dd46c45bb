"""The door of placement: asks rule, greedy planner and solver in turn, and keeps to its limit whatever the solver does.

The solver lives in a child process with a limit of memory, kept warm while it is used. It answers one task at a time.
Whatever happens to it, the greedy plan stands, with the reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

from peerinfer.errors import NoPlacement, PeerinferError
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.placement import greedy
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from peerinfer.placement.ranking import best, objective, plan_of
from peerinfer.placement.rule import by_rule, is_whole_only
from peerinfer.placement.shortage import why_not
from peerinfer.placement.solver_calls import CHAIN_MAX_BYTES, SOLVE, Chain, Task
from peerinfer.process.child import Child

LIMIT_S: Final = 2.0
"""For a whole answer: 32 nodes and 126 layers are proven in less."""
MEMORY_BYTES: Final = 3 << 30
"""Address space of the child: OR-Tools with its imports and threads reserves about 2 GiB; a search takes some MiB."""
IDLE_S: Final = 60.0
"""After its last task the child ends: starting one takes about a second."""
MARGIN_S: Final = 0.02
"""Kept of the limit for the way to the child and back, and for looking at its answer."""
OVERRUN_S: Final = 2.0
"""Beyond its own limit, after which a child is stopped: it looks at the clock between steps of its search only."""
WAITING_MAX: Final = 4
"""Problems that wait for the solver; for more the greedy plan has to do."""
FAILURES_MAX: Final = 3
"""In a row, after which the child is left alone for a while."""
REST_S: Final = 300.0
"""How long."""


class Planner:
    """Answers problems. `stop` it at the end."""

    def __init__(self, module: str = "peerinfer.placement.solving") -> None:
        """`module` serves the child."""
        self._module = module
        self._child: Child | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures = 0
        self._rests_until_s = 0.0
        self._is_missing = find_spec("ortools") is None
        self._trouble = "ortools is not installed, so the greedy planner answers alone." if self._is_missing else ""

    @property
    def solver_name(self) -> str:
        """`cp-sat`, or `greedy` where that has to answer alone."""
        return "greedy" if self._is_missing else "cp-sat"

    @property
    def trouble(self) -> str:
        """Why the greedy planner answers alone, or did so last, in one sentence; empty if it does not."""
        return self._trouble

    async def solve(self, problem: Problem, limit_s: float = LIMIT_S) -> Plan:
        """The best plan that is found within `limit_s`.

        Raises `NoPlacement` with a sentence that says what is short, what to try, and who was left out and why.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        found, ruled = await asyncio.to_thread(_at_once, problem)
        if ruled is not None:
            return replace(ruled, solver_ms=(loop.time() - began_s) * 1000)
        if is_whole_only(problem):
            raise NoPlacement(why_not(problem))
        note = self._trouble if self._is_missing else ""
        plan = found
        if not note:
            chain, note = await self._ask(problem, found, began_s + limit_s - MARGIN_S)
            plan = _better(problem, found, chain)
            if not note and not chain.nodes and not chain.is_proven:
                note = f"The solver found nothing better within {limit_s:g} s."
        if plan is None:
            raise NoPlacement(why_not(problem))
        return replace(plan, solver_ms=(loop.time() - began_s) * 1000, note=note)

    async def stop(self) -> None:
        """Ends the child, and with it a task under way."""
        if self._child is not None:
            self._child.kill()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._rest()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, problem: Problem, found: Plan | None, until_s: float) -> tuple[Chain, str]:
        """What the solver says before `until_s` by the loop's clock, or why it says nothing."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until_s:
            return Chain(), self._trouble
        if self._waiting >= WAITING_MAX:
            return Chain(), "Too many plans were asked for at once, so the greedy planner answered."
        begun = asyncio.Event()
        self._waiting += 1  # at once: others may ask before the task begins
        task = self._keep(loop.create_task(self._ask_in_turn(problem, found, until_s, begun)))
        task.add_done_callback(self._left)
        try:
            async with asyncio.timeout_at(until_s + MARGIN_S / 2):
                return await asyncio.shield(task)
        except TimeoutError:
            pass
        finally:
            if not begun.is_set():
                task.cancel()
        return Chain(), "The solver did not answer in time, so the greedy planner did."

    async def _ask_in_turn(
        self, problem: Problem, found: Plan | None, until_s: float, begun: asyncio.Event
    ) -> tuple[Chain, str]:
        async with self._turn:
            begun.set()
            return await self._call(problem, found, until_s)

    async def _call(self, problem: Problem, found: Plan | None, until_s: float) -> tuple[Chain, str]:
        """One task for the child. It goes on when nobody waits for it any more, so that the child stays in step."""
        loop = asyncio.get_running_loop()
        if self._idle is not None:
            self._idle.cancel()
        try:
            child = await self._running()
            left_s = until_s - loop.time()
            if left_s <= 0:
                return Chain(), "The solver was still starting, so the greedy planner answered."
            task = pack(pack_fields(_task(problem, found, left_s)))
            body = await child.call(SOLVE, task, deadline_s=left_s + OVERRUN_S)
            chain = unpack_fields(Chain, unpack(body, CHAIN_MAX_BYTES))
            if chain.nodes and plan_of(problem, chain.nodes, chain.ends, "cp-sat") is None:
                raise ValueError("its answer is no plan for this problem.")
        except (PeerinferError, ValueError) as error:
            return Chain(), self._failed(str(error))
        finally:
            self._idle = loop.call_later(IDLE_S, self._rest)
        self._failures = 0
        self._trouble, self._is_missing = chain.trouble, bool(chain.trouble)
        return chain, chain.trouble

    async def _running(self) -> Child:
        if self._child is None or not self._child.alive:
            self._child = await Child.start(self._module, "solver", memory_limit_bytes=MEMORY_BYTES)
        return self._child

    def _failed(self, reason: str) -> str:
        """Ends the child, which is dead or not to be trusted, and says why the solver did not answer."""
        self._rest()
        self._failures += 1
        self._trouble = f"The solver failed, so the greedy planner answered: {reason}"
        if self._failures >= FAILURES_MAX:
            self._failures = 0
            self._rests_until_s = asyncio.get_running_loop().time() + REST_S
        return self._trouble

    def _rest(self) -> None:
        child, self._child = self._child, None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if child is not None:
            self._keep(asyncio.get_running_loop().create_task(child.stop()))

    def _left(self, _task: asyncio.Task[Any]) -> None:
        self._waiting -= 1

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _at_once(problem: Problem) -> tuple[Plan | None, Plan | None]:
    """The greedy plan, and the one that needs no search if there is one."""
    found = greedy.find(problem)
    return found, by_rule(problem, found)


def _task(problem: Problem, found: Plan | None, limit_s: float) -> Task:
    if found is None:
        return Task(problem, limit_s)
    stages = found.stages
    hint = None
    if len(stages) > 1:
        hint = Chain(tuple(stage.node for stage in stages), tuple(stage.last_layer for stage in stages))
    return Task(problem, limit_s, objective(problem, stages, found.predicted), hint)


def _better(problem: Problem, found: Plan | None, chain: Chain) -> Plan | None:
    """The better one of the greedy plan and the solver's chain, if that is sound."""
    solved = plan_of(problem, chain.nodes, chain.ends, "cp-sat") if chain.nodes else None
    plan = best(problem, [one for one in (found, solved) if one is not None])
    if plan is None or not chain.is_proven:
        return plan
    return replace(plan, solver="cp-sat", is_optimal=True)
