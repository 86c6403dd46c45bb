"""Measures the planner: time to a proven optimum, the answer within 50 ms, and how far greedy is from the best.

    .venv/bin/python scripts/bench_placement.py [--seeds N]

Definition. A problem is solved by the real door (`placement/service.py`) with a warm child: the time is that of the
whole call, rule and greedy plan included, until an optimum is proven. Nodes are unlike in memory and speed, the model
needs two thirds of all memory, and links are of three kinds: `each` pair its own, `access` (a pair's link is the sum of
how either is connected: many near ties), `one` for all. Greedy's gap is over 500 clusters of 2-6 nodes and up to 24
layers, against the optimum that the solver proves.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import time

from random_clusters import large_cluster, small_cluster

from peerinfer.errors import NoPlacement
from peerinfer.placement import greedy
from peerinfer.placement.problem import POLICIES, Problem
from peerinfer.placement.ranking import objective
from peerinfer.placement.service import Planner

SIZES = ((16, 80, 0.5), (32, 126, 2.0))
"""Nodes, layers, and the seconds within which the optimum must be proven."""
SHORT_S = 0.05
LIMIT_S = 10.0
CLUSTERS = 500


async def main(seeds: int) -> None:
    """Prints one table after the other."""
    system = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    print(f"machine: {os.cpu_count()} cores, {system}")
    planner = Planner()
    if planner.trouble:
        print(planner.trouble)
    try:
        await planner.solve(large_cluster(8, 32, 0, "latency", "each"), LIMIT_S * 3)
        for nodes, layers, bar_s in SIZES:
            await _proofs(planner, nodes, layers, bar_s, seeds)
        await _short(planner, seeds)
        await _gaps(planner)
    finally:
        await planner.stop()


async def _proofs(planner: Planner, nodes: int, layers: int, bar_s: float, seeds: int) -> None:
    print(f"\n{nodes} nodes × {layers} layers, {seeds} seeds (bar: proven within {bar_s:g} s)")
    print("policy      links   median s  worst s  proven  within bar  greedy ms (worst)  greedy's gap (mean)")
    for policy in POLICIES:
        for links in ("each", "access", "one"):
            times: list[float] = []
            greedy_ms: list[float] = []
            gaps: list[float] = []
            proven = 0
            for seed in range(seeds):
                problem = large_cluster(nodes, layers, seed, policy, links)
                began_s = time.perf_counter()
                found = greedy.place(problem)
                greedy_ms.append((time.perf_counter() - began_s) * 1000)
                began_s = time.perf_counter()
                plan = await planner.solve(problem, LIMIT_S)
                times.append(time.perf_counter() - began_s)
                proven += plan.is_optimal
                value = objective(problem, plan.stages, plan.predicted)
                gaps.append(objective(problem, found.stages, found.predicted) / value - 1)
            within = sum(one <= bar_s for one in times)
            print(
                f"{policy:<11} {links:<7} {statistics.median(times):>8.2f} {max(times):>8.2f} {proven:>4}/{seeds}"
                f" {within:>8}/{seeds} {statistics.median(greedy_ms):>10.1f} ({max(greedy_ms):.1f})"
                f" {statistics.mean(gaps):>14.2%}"
            )


async def _short(planner: Planner, seeds: int) -> None:
    """The hardest size with a limit that is too short for the solver."""
    times: list[float] = []
    answered = 0
    for seed in range(seeds):
        problem = large_cluster(32, 126, seed, "latency", "each")
        began_s = time.perf_counter()
        plan = await planner.solve(problem, SHORT_S)
        times.append(time.perf_counter() - began_s)
        answered += plan.stages == greedy.place(problem).stages
        await planner.solve(large_cluster(8, 32, 0, "latency", "each"), LIMIT_S)  # lets the child come to rest
    worst_ms = max(times) * 1000
    print(f"\nlimit of {SHORT_S * 1000:.0f} ms, 32 × 126: greedy plan in {answered}/{seeds}, worst {worst_ms:.0f} ms")


async def _gaps(planner: Planner) -> None:
    print(f"\n{CLUSTERS} clusters of 2-6 nodes, up to 24 layers")
    for policy in POLICIES:
        gaps = [
            gap for seed in range(CLUSTERS) if (gap := await _gap(planner, small_cluster(seed, policy))) is not None
        ]
        exact = sum(gap < 1e-4 for gap in gaps)
        mean, worst = statistics.mean(gaps), max(gaps)
        print(f"{policy:<11} greedy's gap: mean {mean:.2%}, worst {worst:.1%}, none in {exact}/{len(gaps)}")


async def _gap(planner: Planner, problem: Problem) -> float | None:
    """How much worse the greedy plan is; None where there is none."""
    found = greedy.find(problem)
    try:
        plan = await planner.solve(problem, LIMIT_S)
    except NoPlacement:
        return None
    if found is None:
        return None
    value = objective(problem, plan.stages, plan.predicted)
    return objective(problem, found.stages, found.predicted) / value - 1 if value else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measures the planner.")
    parser.add_argument("--seeds", type=int, default=10)
    asyncio.run(main(parser.parse_args().seeds))
