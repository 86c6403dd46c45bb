"""The child process that solves: it imports OR-Tools, which the daemon never does. The daemon's side is `service.py`.

Where OR-Tools cannot be imported the child starts all the same, and answers with the reason.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Final, cast

import psutil

from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.placement.problem import Problem
from peerinfer.placement.solver_calls import TASK_MAX_BYTES, Chain, Task
from peerinfer.process.inside import Emit, Part

NICE: Final = 10
"""Half of the way down, as Unix counts it."""
Solve = Callable[[Problem, float | None, float, Chain | None], Chain]


class SolvingService:
    """Answers one task after the other."""

    def __init__(self) -> None:
        _go_behind()
        self._solve: Solve | None = None
        self._trouble = ""
        try:
            self._solve = cast(Solve, importlib.import_module("peerinfer.placement.cp_sat").solve)
        except ModuleNotFoundError as error:
            self._trouble = f"{error.name or 'ortools'} is not installed, so the greedy planner answers alone."
        except (ImportError, OSError) as error:
            self._trouble = f"ortools cannot be imported ({error}), so the greedy planner answers alone."

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:  # noqa: ARG002
        """One task."""
        task = unpack_fields(Task, unpack(body, TASK_MAX_BYTES))
        if self._solve is None:
            return [pack(pack_fields(Chain(trouble=self._trouble)))]
        return [pack(pack_fields(self._solve(task.problem, task.to_beat, task.limit_s, task.hint)))]


def _go_behind() -> None:
    """Gives this process a low priority: engines that answer somebody go first."""
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else NICE)


def open_service() -> SolvingService:
    """The service of a fresh child."""
    return SolvingService()
