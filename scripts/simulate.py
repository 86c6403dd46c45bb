"""Runs the control plane of many meshes through thousands of disasters on virtual time (`tests/sim`), and counts.

A run: N hosts, 120 s of faults, then at most 60 s of quiet in which all must agree. `heal_s` is the virtual time from
the end of the faults until one leader held all for good. Exits with 1 if an invariant broke; the same seed and size
break it again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.sim.mesh import FAULTS_S, QUIET_S, Outcome, run
from tests.sim.mutants import MUTANTS, Mutant, hunt

HUNT_RUNS = 300
"""Runs in which a broken rule must be noticed."""
CHUNK = 20


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1,2,3,5,7", metavar="N,N,...", help="sizes of the meshes")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="runs of each size")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N")
    parser.add_argument("--mutants", action="store_true", help="break each rule on purpose and see it noticed, instead")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    begun = time.monotonic()
    with ProcessPoolExecutor(asked.processes) as pool:
        if asked.mutants:
            figures, is_well = _mutants(pool)
        else:
            sizes = [int(size) for size in asked.nodes.split(",")]
            seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
            figures, is_well = _simulate(pool, sizes, seeds)
    print(json.dumps(figures) if asked.json else _shown(figures, time.monotonic() - begun))
    return 0 if is_well else 1


def _simulate(pool: ProcessPoolExecutor, sizes: list[int], seeds: range) -> tuple[dict[str, object], bool]:
    counts = [size for size in sizes for _ in seeds]
    outcomes = list(pool.map(run, counts, list(seeds) * len(sizes), chunksize=CHUNK))
    broken = [outcome for outcome in outcomes if outcome.broken]
    figures: dict[str, object] = {
        "violations": len(broken),
        "failures": [
            {"seed": each.seed, "nodes": each.nodes, "invariant": each.broken, "detail": each.detail[:500]}
            for each in broken
        ],
        "faults": sum(outcome.faults for outcome in outcomes),
        "commands": sum(outcome.commands for outcome in outcomes),
        "frames": sum(outcome.frames for outcome in outcomes),
        "sizes": dict(_by_size(sizes, outcomes)),
    }
    return figures, not broken


def _by_size(sizes: list[int], outcomes: list[Outcome]) -> Iterator[tuple[str, object]]:
    for size in sizes:
        heal = sorted(one.heal_s for one in outcomes if one.nodes == size and one.heal_s is not None)
        spread = {"p50": _percentile(heal, 50), "p99": _percentile(heal, 99), "max": _percentile(heal, 100)}
        yield str(size), {"runs": sum(one.nodes == size for one in outcomes), "heal_s": spread}


def _percentile(values: list[float], percent: int) -> float | None:
    return round(values[max(0, math.ceil(len(values) * percent / 100) - 1)], 3) if values else None


def _mutants(pool: ProcessPoolExecutor) -> tuple[dict[str, object], bool]:
    results = list(pool.map(_hunted, range(len(MUTANTS))))
    return {"mutants": [result for result, _ in results]}, all(is_caught for _, is_caught in results)


def _hunted(number: int) -> tuple[dict[str, object], bool]:
    mutant: Mutant = MUTANTS[number]
    runs, outcome = hunt(mutant, HUNT_RUNS)
    result: dict[str, object] = {"rule": mutant.rule, "runs": runs, "invariant": outcome.broken if outcome else None}
    return result, outcome is not None


def _shown(figures: dict[str, object], seconds: float) -> str:
    lines = [
        f"Each run: {FAULTS_S:g} s of faults, up to {QUIET_S:g} s of quiet (virtual time). Real time {seconds:.0f} s."
    ]
    for name, value in figures.items():
        rows = [*cast("dict[str, object]", value).items()] if isinstance(value, dict) else value
        many = isinstance(rows, list)
        lines += [f"{name}:", *(f"  {row}" for row in cast("list[object]", rows))] if many else [f"{name}: {value}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
