"""Whether MLX runs layers on this machine as it should: the checks that only the machine itself can make.

Contract, parity (also of stages that are broken on purpose, and over 50 honest loads), hidden states and tokens against
llama.cpp by the tests of engines; then a pipeline of both, whose stages are timed side by side. Prints each figure and
one verdict; the exit status is 0 if all held.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any, Final

from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.engine.mlx_ability import MlxAbility, mlx_ability

ROOT: Final = Path(__file__).resolve().parent.parent
TESTS: Final = (
    "tests/engine/test_contract.py",
    "tests/engine/test_mlx_faults.py",
    "tests/engine/test_mlx_real.py",
    "tests/engine/test_mlx_weights.py",
    "tests/engine/test_parity.py",
    "tests/node/test_engines.py",
)
TESTS_S: Final = 1800.0
DEMO_S: Final = 300.0
ENGINES: Final = (MLX, LLAMA, MLX, LLAMA)
CUTS: Final = "8,15,23"
"""About as many layers for each; the last one has the head and is not compared."""


def main() -> int:
    """Runs the checks. Returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the 50 loads")
    asked = parser.parse_args()
    known = mlx_ability()
    print(f"{platform.system()} {platform.machine()}, {known.version or known.trouble}")
    failed = [] if not known.trouble else ["MLX does not run here"]
    if not failed:
        print(f"It computes on the {'GPU (Metal)' if known.metal else 'processor'}.")
        failed += [f"no {name} models" for name in known.unable]
        failed += [] if _tests(is_quick=asked.quick) else ["the tests of engines"]
        failed += [] if _pipeline() else ["a pipeline of both engines"]
    print(_verdict(known, failed))
    return 1 if failed else 0


def _tests(*, is_quick: bool) -> bool:
    marked = ["-m", "not soak" if is_quick else "soak or not soak"]
    command = [sys.executable, "-m", "pytest", *TESTS, *marked, "--timeout", "600"]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=TESTS_S).returncode == 0


def _pipeline() -> bool:
    """A demo of both engines: whether it answers, and what a layer takes in each."""
    command = [sys.executable, "-P", "-m", "peerinfer", "demo", "--json", "--max-tokens", "48"]
    engines = ["--engines", ",".join(ENGINES), "--cuts", CUTS]
    done = subprocess.run([*command, *engines], capture_output=True, text=True, check=False, timeout=DEMO_S)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return False
    shown: dict[str, Any] = json.loads(done.stdout)
    print(f"{', '.join(ENGINES)}: {shown['text']!r}")
    times = {engine: _layer_ms(shown["stages"][:-1], engine) for engine in (MLX, LLAMA)}
    if all(times.values()):
        print(
            f"A layer takes {times[MLX]:.2f} ms per token in MLX and {times[LLAMA]:.2f} ms in llama.cpp: "
            f"ratio {times[MLX] / times[LLAMA]:.2f}. All stages share this machine."
        )
    return bool(shown["text"].strip()) and [stage["engine"] for stage in shown["stages"]] == list(ENGINES)


def _layer_ms(stages: list[dict[str, Any]], engine: str) -> float:
    """Of one layer, on average over the stages of an engine; 0 where none was measured."""
    told = [one for one in stages if one["engine"] == engine and one["ms_per_token"]]
    return mean(one["ms_per_token"] / (one["layers"][1] - one["layers"][0]) for one in told) if told else 0.0


def _verdict(known: MlxAbility, failed: list[str]) -> str:
    if failed:
        return f"VERDICT: failed: {', '.join(failed)}."
    where = "on Metal" if known.metal else "on the processor; Metal was not tried, for this machine has none"
    return f"VERDICT: everything held, {where}."


if __name__ == "__main__":
    sys.exit(main())
