"""The best chain of at least two nodes, by OR-Tools' CP-SAT. Only the planner's child imports this file.

The ring of stages is one circuit: an arc from each stage to the next, from a depot to the first and from the last to
the depot, and a loop at every node that has no stage. Which pair of last and first closes the ring is a choice of its
own: with second arcs between the two in the circuit, version 9.15 of the solver twice ended with a damaged heap.

A node's layers are one whole number: what they take is linear in it, or the largest of a few lines (devices filled one
after the other), or an element of a table. Where every layer may be cut only the numbers of layers matter; else every
node also has a place where its stage begins.

Times become whole numbers, `STEPS` in the value to beat, so that rounding stays below a ten-thousandth. One node that
holds all is no business of this file: the greedy planner looks at each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
from ortools.sat.python import cp_model

from peerinfer.placement.problem import Problem
from peerinfer.placement.ranking import objective, plan_of
from peerinfer.placement.solver_calls import Chain
from peerinfer.placement.tables import FIRST, LAST, MIDDLE, Floats, Tables, tabulate

STEPS: Final = 1 << 22
"""Of the value to beat: each layer and hop is rounded by half of one at most."""
GAIN: Final = 5e-5
"""Share of the value to beat by which a chain must be better to be of interest."""
GAP: Final = 3e-4
"""Share within which a chain counts as proven the best: links and layers are known to a few percent at most."""
SLACK: Final = 1e-9
"""Relative difference of values that are the same but for rounding."""
Pair = tuple[int, int]
WORKERS: Final = 8
"""Threads of the solver, each with a strategy of its own: which one finds the proof differs from mesh to mesh. The
child has a low priority, so that engines on the same cores go first."""


def solve(problem: Problem, to_beat: float | None, limit_s: float, hint: Chain | None = None) -> Chain:
    """The best chain of at least two nodes whose value by the policy is below `to_beat` (None: whatever it is).

    Values as `ranking.objective` gives them.
    """
    tables = tabulate(problem)
    if to_beat is not None:
        return _Search(tables, to_beat).run(limit_s, hint) if to_beat > 0 else Chain(is_proven=True)
    began_s = time.monotonic()
    found = _Search(tables, _worst(tables)).run(limit_s, None)
    plan = plan_of(problem, found.nodes, found.ends, "cp-sat") if found.nodes else None
    if plan is None:
        return found
    value = objective(problem, plan.stages, plan.predicted)
    better = solve(problem, value, limit_s - (time.monotonic() - began_s), found)  # once more, in finer steps
    return better if better.nodes else replace(found, is_proven=better.is_proven)


def _worst(tables: Tables) -> float:
    """More than any chain can come to."""
    finite = [np.where(np.isfinite(one), one, 0.0) for one in (tables.us, tables.hop, tables.back)]
    if tables.problem.policy == "spread":
        return 1.0 + 1e-3
    return 1.0 + float(finite[0].max(axis=(0, 2)).sum() + finite[1].max(axis=1).sum() + finite[2].max())


class _Search:
    """One model for the solver."""

    def __init__(self, tables: Tables, to_beat: float) -> None:
        self.tables = tables
        self.policy = tables.problem.policy
        self.scale = STEPS / to_beat
        self.limit = math.floor(STEPS * (1 - GAIN))
        self.most = tables.most()
        self.places = range(len(tables.nodes))
        model = self.model = cp_model.CpModel()
        self.used = [model.new_bool_var(f"used {place}") for place in self.places]
        self.first = [model.new_bool_var(f"first {place}") for place in self.places]
        self.last = [model.new_bool_var(f"last {place}") for place in self.places]
        self.sizes = [model.new_int_var(0, int(self.most[MIDDLE, place]), f"layers {place}") for place in self.places]
        self.arcs: dict[Pair, cp_model.IntVar] = {}
        self.closing: dict[Pair, cp_model.IntVar] = {}
        model.add(_sum(self.sizes) == tables.layers)
        model.add(_sum(self.used) >= max(2, tables.problem.min_nodes))
        for place in self.places:
            self._fit(place)
        self._ring()
        if len(tables.cuts) <= tables.layers:
            self._cut()
        self._minimise()

    def run(self, limit_s: float, hint: Chain | None) -> Chain:
        """What the solver finds within its limit."""
        if hint is not None:
            self._hint(hint)
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = max(0.0, limit_s)
        solver.parameters.num_workers = WORKERS
        solver.parameters.relative_gap_limit = GAP
        status = solver.solve(self.model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return Chain(is_proven=status == cp_model.INFEASIBLE)
        following = {origin: target for (origin, target), arc in self.arcs.items() if solver.value(arc)}
        at: int | None = next(place for place in self.places if solver.value(self.first[place]))
        nodes: list[str] = []
        ends: list[int] = []
        while at is not None:
            nodes.append(self.tables.nodes[at].node)
            ends.append((ends[-1] if ends else 0) + int(solver.value(self.sizes[at])))
            at = following.get(at)
        return Chain(tuple(nodes), tuple(ends), is_proven=status == cp_model.OPTIMAL)

    def _steps(self, value: float) -> int:
        return round(value * self.scale)

    def _fit(self, place: int) -> None:
        """How many layers a node holds: fewer as the first with the embedding, or as the last with the head."""
        middle, first, last = (int(self.most[kind, place]) for kind in (MIDDLE, FIRST, LAST))
        used, is_first, is_last, size = self.used[place], self.first[place], self.last[place], self.sizes[place]
        for most, holds in ((middle, used), (first, is_first), (last, is_last)):
            if not most:
                self.model.add(holds == 0)
        self.model.add(size <= middle * used - (middle - first) * is_first - (middle - last) * is_last)
        self.model.add(size >= used)
        self.model.add(is_first + is_last <= used)

    def _ring(self) -> None:
        """The circuit leaves a depot to the first stage, and comes back to it from the last."""
        depot = len(self.places)
        arcs: list[tuple[int, int, cp_model.LiteralT]] = []
        for place in self.places:
            arcs.append((place, place, ~self.used[place]))
            arcs.append((depot, place, self.first[place]))
            arcs.append((place, depot, self.last[place]))
        for pair in np.argwhere(np.isfinite(self.tables.hop)).tolist():
            origin, target = int(pair[0]), int(pair[1])
            if self.policy == "spread" or self._steps(float(self.tables.hop[origin, target])) <= self.limit:
                arc = self.arcs[origin, target] = self.model.new_bool_var(f"{origin} to {target}")
                arcs.append((origin, target, arc))
            self.closing[origin, target] = self.model.new_bool_var(f"{origin} back to {target}")
        self.model.add_circuit(arcs)
        for place in self.places:
            begins = [arc for (_, target), arc in self.closing.items() if target == place]
            ends = [arc for (origin, _), arc in self.closing.items() if origin == place]
            self.model.add(_sum(begins) == self.first[place])
            self.model.add(_sum(ends) == self.last[place])

    def _cut(self) -> None:
        """Stages begin and end at legal cuts only."""
        cuts = cp_model.Domain.from_values([int(cut) for cut in self.tables.cuts])
        starts = [self.model.new_int_var_from_domain(cuts, f"start {place}") for place in self.places]
        ends = [self.model.new_int_var_from_domain(cuts, f"end {place}") for place in self.places]
        for place in self.places:
            self.model.add(ends[place] - starts[place] == self.sizes[place])
            _only_if(self.model.add(starts[place] == 0), self.first[place])
            _only_if(self.model.add(starts[place] == 0), ~self.used[place])
            _only_if(self.model.add(ends[place] == self.tables.layers), self.last[place])
        for (origin, target), arc in self.arcs.items():
            _only_if(self.model.add(ends[origin] == starts[target]), arc)

    def _minimise(self) -> None:
        hops = {pair: self._steps(float(self.tables.hop[pair])) * arc for pair, arc in self.arcs.items()}
        times = [self._time(place) for place in self.places]
        if self.policy == "latency":
            backs = [self._steps(float(self.tables.back[pair])) * arc for pair, arc in self.closing.items()]
            total = _sum([*times, *hops.values(), *backs])
            self.model.add(total <= self.limit)
            self.model.minimize(total)
            return
        pace = self.model.new_int_var(0, self.limit, "pace")
        for place, time_steps in enumerate(times):
            self.model.add(time_steps <= pace)
            if self.policy == "throughput":  # at most one arc leaves a node
                self.model.add(_sum([hop for pair, hop in hops.items() if pair[0] == place]) <= pace)
        self.model.minimize(pace)

    def _time(self, place: int) -> cp_model.LinearExprT:
        """What the stage of a node takes, in steps, or its share under `spread`; nothing without one."""
        values = self.tables.share if self.policy == "spread" else self.tables.us
        middle, first, last = (
            values[kind, place, 1 : int(self.most[kind, place]) + 1] for kind in (MIDDLE, FIRST, LAST)
        )
        used, is_first, is_last, size = self.used[place], self.first[place], self.last[place], self.sizes[place]
        if not len(middle):
            return 0
        lines = _hull(middle)
        head = last - middle[: len(last)]
        least_head = float(head.min(initial=np.inf)) if len(head) else 0.0
        ends = self._steps(least_head) * is_last  # what the head adds at least
        if self.policy == "spread" and len(first):
            ends += self._steps(float(first[0] - middle[0])) * is_first
        rows = [self._steps(line.base) * used + self._steps(line.slope) * size + ends for line in lines]
        is_told = all(line.is_exact for line in lines)
        if len(lines) == 1 and is_told and bool(np.all(head <= least_head + SLACK * (abs(least_head) + middle[-1]))):
            return rows[0]
        result = self.model.new_int_var(0, self.limit, f"time {place}")
        for row in rows:
            self.model.add(result >= row)
        if not is_told:
            self._look_up(result, middle, size, used)
        self._with_head(result, last, size, is_last)
        return result

    def _with_head(
        self, result: cp_model.IntVar, last: Floats, size: cp_model.IntVar, is_last: cp_model.IntVar
    ) -> None:
        """The same of a last stage: the head may push layers to a slower device."""
        lines = _hull(last) if len(last) else []
        for line in lines:
            row = self._steps(line.base) + self._steps(line.slope) * size
            _only_if(self.model.add(result >= row), is_last)
        if not all(line.is_exact for line in lines):
            self._look_up(result, last, size, is_last)

    def _look_up(self, result: cp_model.IntVar, values: Floats, size: cp_model.IntVar, holds: cp_model.IntVar) -> None:
        """`result` is at least the value of that many layers, if `holds`."""
        steps = [0, *(self._steps(float(value)) for value in values)]
        steps += [0] * (self.tables.layers + 1 - len(steps))
        least = self.model.new_int_var(0, max(steps), "")
        self.model.add_element(size, steps, least)
        _only_if(self.model.add(result >= least), holds)

    def _hint(self, hint: Chain) -> None:
        """Where to begin: what is known already."""
        number = {node.node: place for place, node in enumerate(self.tables.nodes)}
        order = [number[node] for node in hint.nodes]
        sizes = dict(zip(order, np.diff([0, *hint.ends]).tolist(), strict=True))
        for place in self.places:
            self.model.add_hint(self.used[place], place in sizes)
            self.model.add_hint(self.sizes[place], int(sizes.get(place, 0)))
            self.model.add_hint(self.first[place], place == order[0])
            self.model.add_hint(self.last[place], place == order[-1])
        pairs = set(pairwise(order))
        for pair, arc in self.arcs.items():
            self.model.add_hint(arc, pair in pairs)
        for pair, arc in self.closing.items():
            self.model.add_hint(arc, pair == (order[-1], order[0]))


def _sum(terms: Sequence[cp_model.LinearExprT]) -> cp_model.LinearExprT:
    expression: Any = cp_model.LinearExpr  # its overloads are typed in part only
    return cast("cp_model.LinearExprT", expression.sum(list(terms))) if terms else 0


def _only_if(constraint: cp_model.Constraint, holds: cp_model.LiteralT) -> None:
    """The constraint counts only if the literal is true."""
    loose: Any = constraint  # as above
    loose.only_enforce_if(holds)


@dataclass(frozen=True, slots=True)
class _Line:
    """`base + slope · layers`, below a table and touching it."""

    base: float
    slope: float
    is_exact: bool
    """Whether the table lies on it from where it begins to where the next one does."""


def _hull(values: Floats) -> list[_Line]:
    """The lines of the lower convex hull of `values`, which stand for 1, 2 … layers."""
    if len(values) == 1:
        return [_Line(float(values[0]), 0.0, is_exact=True)]
    corners: list[int] = []
    slack = SLACK * float(np.abs(values).max())
    for place in range(len(values)):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            # b lies on or above the line from a to place
            if values[b] - values[a] < (values[place] - values[a]) * (b - a) / (place - a) - slack:
                break
            corners.pop()
        corners.append(place)
    lines: list[_Line] = []
    for a, b in pairwise(corners):
        slope = float(values[b] - values[a]) / (b - a)
        base = float(values[a]) - slope * (a + 1)
        inner = base + slope * np.arange(a + 1, b + 2)
        lines.append(_Line(base, slope, bool((np.abs(values[a : b + 1] - inner) <= slack).all())))
    return lines
