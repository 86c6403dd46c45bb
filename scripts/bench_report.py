"""What the bench has found: medians, ratios, the parts of one token's time, and the table for a person."""

from __future__ import annotations

import contextlib
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from bench_mesh import Answered

BUSY_SHARE = 0.25
"""Load average per core from which on the figures are not to be trusted."""


@dataclass(slots=True)
class Row:
    """One thing that both sides did, in each round."""

    unit: str
    faster_is: str
    """`higher` or `lower`."""
    ours: list[float] = field(default_factory=list[float])
    theirs: list[float] = field(default_factory=list[float])

    def add(self, ours: float, theirs: float) -> None:
        """One round."""
        self.ours.append(ours)
        self.theirs.append(theirs)

    def summary(self) -> dict[str, Any]:
        """Medians, spreads and the ratio of speeds."""
        pairs = zip(self.ours, self.theirs, strict=True)
        ratios = [a / b if self.faster_is == "higher" else b / a for a, b in pairs]
        return {
            "unit": self.unit,
            "peerinfer": spread(self.ours),
            "llama_cpp": spread(self.theirs),
            "ratio": spread(ratios),
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def parts_of(answered: Answered, stages: Sequence[dict[str, Any]], callback_ms: float) -> dict[str, float]:
    """One token's time over two stages by part, in milliseconds.

    `callback_ms` is the graph callback's share of a whole model's token: only the first half of the layers asks it.
    """
    first, last = stages
    callback = max(0.0, callback_ms / 2)
    ring = 1e3 / answered.ring_tokens_per_s
    parts = {
        "engine": first["engine_ms"] + last["engine_ms"] - callback,
        "graph callback": callback,
        "sampler": last["sampling_ms"],
        "child overhead": first["child_ms"] + last["child_ms"],
        "child pipe": first["pipe_ms"] + last["pipe_ms"],
        "hop: event loop, TLS, wire": last["hop_in_ms"],
        "streaming": answered.ms_per_token - ring,
    }
    return {
        **parts,
        "rest": answered.ms_per_token - sum(parts.values()),
        "all": answered.ms_per_token,
    }


def machine(threads: int) -> dict[str, Any]:
    """What the figures belong to."""
    load = load_average()
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "peerinfer": version("peerinfer"),
        "llama-cpp-python": version("llama-cpp-python"),
        "threads_per_stage": threads,
        "load_average_at_start": load,
        "busy": load > BUSY_SHARE * (psutil.cpu_count() or 1),
    }


def load_average() -> float:
    """Processes that wanted to run in the last minute."""
    return round(psutil.getloadavg()[0], 2)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def show(shown: dict[str, Any]) -> None:
    """The table for a person."""
    print(shown["definition"] + "\n")
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown["machine"].items()))
    print(f"{shown['rounds']} rounds of {shown['tokens']} tokens; same tokens on both sides: {shown['same_tokens']}\n")
    stages = shown["two_stages"]
    rows = {"solo": shown["solo"], "one stream": stages["one_stream"], "prefill": stages["prefill"]}
    rows["together"] = stages["together"]
    print(f"{'':12}{'peerinfer':>22}{'llama.cpp':>22}  {'unit':10}{'RATIO':>6}")
    for name, row in rows.items():
        ratio = row["ratio"]
        print(
            f"{name:12}{_cell(row['peerinfer']):>22}{_cell(row['llama_cpp']):>22}  {row['unit']:10}"
            f"{ratio['median']:6.2f}  ({ratio['min']:.2f} – {ratio['max']:.2f})"
        )
    print("\none stream, ms per token by part")
    for part, value in shown["breakdown_ms"].items():
        print(f"  {part:32}{value['median']:8.3f}  ({value['min']:.3f} – {value['max']:.3f})")


def _cell(value: dict[str, float]) -> str:
    return f"{value['median']:.1f} ({value['min']:.1f} – {value['max']:.1f})"
