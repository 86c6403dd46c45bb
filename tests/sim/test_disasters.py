"""Hundreds of meshes through thousands of disasters: no invariant breaks, and every broken rule is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.mesh import run
from tests.sim.mutants import MUTANTS, Mutant, hunt

ROOT = Path(__file__).resolve().parents[2]
SIZES = (1, 2, 3, 5, 7)
SEEDS = 100
HEAL_MAX_S = 8.0
"""Virtual seconds from the end of the faults until one leader holds all, at the 99th percentile."""
HUNT_RUNS = 300

FAILED = [
    tuple(int(word) for word in line.split("#")[0].split())
    for line in (Path(__file__).parent / "failed_seeds.txt").read_text(encoding="utf-8").splitlines()
    if line.split("#")[0].strip()
]


def test_a_hundred_seeds_of_each_size_break_nothing() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "simulate.py"), "--json", "--seeds", str(SEEDS)]
    done = subprocess.run([*script, "--nodes", ",".join(map(str, SIZES))], capture_output=True, text=True, check=False)
    figures = json.loads(done.stdout)
    assert figures["failures"] == []
    assert (done.returncode, figures["violations"]) == (0, 0)
    assert figures["faults"] > 100 * SEEDS
    assert figures["commands"] > 10 * SEEDS
    assert figures["frames"] > 10 * SEEDS
    for size in SIZES:
        of_size = figures["sizes"][str(size)]
        assert of_size["runs"] == SEEDS
        assert of_size["heal_s"]["p99"] <= HEAL_MAX_S, size


@pytest.mark.parametrize(("nodes", "seed"), FAILED)
def test_what_failed_once_never_fails_again(nodes: int, seed: int) -> None:
    assert run(nodes, seed).detail == ""


def test_a_seed_tells_the_same_story_each_time() -> None:
    assert run(5, 3) == run(5, 3)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule.replace(" ", "-"))
def test_a_broken_rule_is_noticed(mutant: Mutant) -> None:
    runs, outcome = hunt(mutant, HUNT_RUNS)
    assert outcome is not None, f"{runs} runs did not notice: {mutant.rule}"


@pytest.mark.soak
def test_thousands_of_seeds_and_large_meshes_break_nothing() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "simulate.py"), "--json"]
    for sizes, seeds in (("1,2,3,5,7", "5000"), ("10,14,20", "300")):
        done = subprocess.run(
            [*script, "--nodes", sizes, "--seeds", seeds], capture_output=True, text=True, check=False
        )
        assert json.loads(done.stdout)["failures"] == []
