"""The planner's door with real children: within its limit, and with the greedy plan, whatever becomes of the solver."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from random_clusters import large_cluster, small_cluster

from peerinfer.errors import NoPlacement
from peerinfer.placement import greedy, service
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Compute, Problem
from peerinfer.placement.ranking import objective
from peerinfer.placement.service import Planner
from tests.placement.oracle import best_value

CHILDREN = Path(__file__).parent / "children"
HARD = large_cluster(32, 126, 3, "latency", "access")
"""Takes the solver seconds."""
EASY = large_cluster(8, 32, 1, "latency", "each")
AMPLE_S = 30.0
"""Where the answer matters and not its time."""

Make = Callable[..., Planner]


@pytest_asyncio.fixture
async def make() -> AsyncGenerator[Make]:
    made: list[Planner] = []

    def planner(*module: str) -> Planner:
        made.append(Planner(*module))
        return made[-1]

    yield planner
    for one in made:
        await one.stop()


def is_greedy(problem: Problem, plan: Plan) -> bool:
    found = greedy.place(problem)
    return (plan.stages, plan.solver, plan.is_optimal) == (found.stages, "greedy", False)


def solver_children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "peerinfer.placement.solving" in one.cmdline()]


async def child_at_work() -> psutil.Process:
    """The solver's child once it computes."""
    while True:
        for child in solver_children():
            if child.num_threads() > 2:  # its own, and the one that watches its daemon
                return child
        await asyncio.sleep(0.01)


async def test_the_solver_proves_what_greedy_misses(make: Make) -> None:
    plan = await make().solve(EASY, AMPLE_S)
    found = greedy.place(EASY)
    assert (plan.solver, plan.is_optimal, plan.note) == ("cp-sat", True, "")
    assert plan.solver_ms > 0
    assert objective(EASY, plan.stages, plan.predicted) <= objective(EASY, found.stages, found.predicted)


async def test_a_short_limit_gives_the_greedy_plan_cold_and_warm(make: Make) -> None:
    planner = make()
    cold = await planner.solve(HARD, 0.05)
    assert is_greedy(HARD, cold)
    assert cold.note
    await planner.solve(EASY, AMPLE_S)  # now the child is up
    warm = await planner.solve(HARD, 0.05)
    assert is_greedy(HARD, warm)
    assert warm.note
    assert planner.trouble == ""


async def test_one_child_is_kept_and_ends_when_it_is_idle(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    planner = make()
    await planner.solve(EASY, AMPLE_S)
    (child,) = solver_children()
    monkeypatch.setattr(service, "IDLE_S", 0.05)
    await planner.solve(EASY, AMPLE_S)
    assert solver_children() in ([child], [])
    await asyncio.to_thread(psutil.wait_procs, [child], timeout=AMPLE_S)
    assert (await planner.solve(EASY, AMPLE_S)).solver == "cp-sat"


async def test_a_child_killed_at_work_leaves_the_greedy_plan_and_the_next_one_works(make: Make) -> None:
    planner = make()
    task = asyncio.create_task(planner.solve(HARD, AMPLE_S))
    (await child_at_work()).kill()
    plan = await task
    assert is_greedy(HARD, plan)
    assert "The solver ended unexpectedly" in plan.note
    assert planner.trouble == plan.note
    assert (await planner.solve(EASY, AMPLE_S)).solver == "cp-sat"
    assert planner.trouble == ""


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [("broken", "ortools cannot be imported (libortools.so.9: wrong ELF class)"), ("missing", "is not installed")],
)
async def test_without_ortools_greedy_answers_alone_and_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch, folder: str, sentence: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN / folder))
    planner = make()
    plan = await planner.solve(EASY, AMPLE_S)
    assert is_greedy(EASY, plan)
    assert sentence in plan.note
    assert plan.note.endswith("so the greedy planner answers alone.")
    assert (planner.solver_name, planner.trouble) == ("greedy", plan.note)
    assert is_greedy(EASY, await planner.solve(EASY, AMPLE_S))


@pytest.mark.parametrize("kind", ["bytes", "fields", "stranger", "lengths", "layers", "too much"])
async def test_rubbish_is_no_plan(make: Make, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    monkeypatch.setenv("RUBBISH", kind)
    planner = make("rubbish_solver")
    plan = await planner.solve(EASY, AMPLE_S)
    assert is_greedy(EASY, plan)
    assert plan.note.startswith("The solver failed, so the greedy planner answered")


async def test_a_child_that_never_comes_back_costs_the_limit_only(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    monkeypatch.setattr(service, "OVERRUN_S", 0.05)
    planner = make("endless_solver")
    first, second = await asyncio.gather(planner.solve(EASY, 0.5), planner.solve(HARD, 0.5))
    assert is_greedy(EASY, first)
    assert is_greedy(HARD, second)
    assert first.note
    assert second.note


async def test_a_child_that_keeps_failing_is_left_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    monkeypatch.setenv("RUBBISH", "bytes")
    planner = make("rubbish_solver")
    for _ in range(service.FAILURES_MAX):
        await planner.solve(EASY, AMPLE_S)
    monkeypatch.setenv("RUBBISH", "no such kind")
    plan = await planner.solve(EASY, AMPLE_S)
    assert "not a msgpack value" in plan.note  # the old reason: it was not asked again


async def test_more_problems_than_may_wait_get_the_greedy_plan(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    monkeypatch.setattr(service, "OVERRUN_S", 0.05)
    planner = make("endless_solver")  # whoever got a place keeps it until the limit
    plans = await asyncio.gather(*(planner.solve(EASY, 3.0) for _ in range(service.WAITING_MAX + 3)))
    assert len([plan for plan in plans if "Too many plans" in plan.note]) == 3
    assert all(is_greedy(EASY, plan) for plan in plans)


async def test_stopping_ends_the_child_and_what_it_does(make: Make) -> None:
    planner = make()
    task = asyncio.create_task(planner.solve(HARD, AMPLE_S))
    child = await child_at_work()
    await planner.stop()
    assert not child.is_running()
    await asyncio.gather(task, return_exceptions=True)
    assert task.done()


async def test_a_caller_that_gives_up_does_not_disturb_the_next_one(make: Make) -> None:
    planner = make()
    await planner.solve(EASY, AMPLE_S)  # a child that must start first would eat the limit
    task = asyncio.create_task(planner.solve(HARD, 1.5))
    await child_at_work()
    task.cancel()
    plan = await planner.solve(EASY, AMPLE_S)
    assert plan.solver == "cp-sat"


async def test_an_exotic_fit_that_greedy_misses_is_found(make: Make) -> None:
    clusters = (small_cluster(seed, "latency") for seed in range(5000))
    missed = next(one for one in clusters if greedy.find(one) is None and best_value(one) < math.inf)
    plan = await make().solve(missed, AMPLE_S)
    assert (plan.solver, plan.is_optimal) == ("cp-sat", True)


async def test_what_fits_nowhere_is_refused_with_or_without_a_solver(make: Make) -> None:
    tiny = replace(EASY, nodes=tuple(replace(node, devices=(Compute(1000),)) for node in EASY.nodes))
    with pytest.raises(NoPlacement, match="are short"):
        await make().solve(tiny, AMPLE_S)
    assert not solver_children()  # no chain is possible, so nobody was asked
