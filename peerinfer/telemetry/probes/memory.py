"""Memory: what the machine has and can give, and on Linux what this process's control group lets it have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import psutil

from peerinfer.telemetry.facts import Reading

_psutil: Any = psutil
CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
OWN_CGROUP: Final = Path("/proc/self/cgroup")
UNLIMITED_BYTES: Final = 2**60
"""cgroup v1 writes "no limit" as a number near 2**63; no machine has this much."""


class MemoryProbe:
    """Total and available memory, and used swap, in bytes."""

    name = "memory"
    every_s = 1.0

    def read(self) -> Reading:
        """The machine's memory, or less where a control group sets a limit."""
        machine = _psutil.virtual_memory()
        total, free = int(machine.total), int(machine.available)
        if sys.platform == "linux":
            for limit, limit_free in cgroup_limits(OWN_CGROUP, CGROUP_ROOT):
                total, free = min(total, limit), min(free, limit_free)
        return Reading(memory_bytes=total, memory_free_bytes=max(0, free), swap_used_bytes=_swap_used_bytes())


def _swap_used_bytes() -> int | None:
    """None where the system does not tell: Windows with its performance counters off, a sandbox."""
    try:
        return int(_psutil.swap_memory().used)
    except (OSError, RuntimeError):
        return None


def cgroup_limits(own: Path, root: Path) -> list[tuple[int, int]]:
    """(limit, what is left of it) in bytes for each group from this process's own up to the root that has a limit.

    v2: `memory.max`, `memory.current`; v1: `memory.limit_in_bytes`, `memory.usage_in_bytes` (kernel documentation,
    admin-guide/cgroup-v2 and cgroup-v1/memory). File cache that can be dropped at once is not counted as used.
    """
    limits: list[tuple[int, int]] = []
    for group in _groups(own, root):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < UNLIMITED_BYTES:
            limits.append((limit, max(0, limit - max(0, used - _droppable(group / "memory.stat")))))
    return limits


def _groups(own: Path, root: Path) -> list[Path]:
    """The folders of this process's memory groups; inside a container the root folder is the group itself."""
    found = [root, root / "memory"]
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = root / "memory" if "memory" in controllers.split(",") else root
        if controllers and top == root:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        found += [top.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or the word "max"
        return None


def _droppable(stat: Path) -> int:
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
