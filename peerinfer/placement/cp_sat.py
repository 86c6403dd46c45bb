"""The best chain of at least two nodes, by OR-Tools' CP-SAT. Only the planner's child imports this file.

The ring of stages is one circuit over the nodes: an arc from each stage to the next, one closing arc from the last back
to the first, and a loop at every node that has no stage. A node's layers are one whole number: what they take is linear
in it, or the largest of a few lines (devices filled one after the other), or an element of a table. Where every layer
may be cut only the numbers of layers matter; else every node also has a place where its stage begins.

Times become whole numbers of `STEPS` in the value to beat, so that rounding stays below a ten-thousandth. One node that
holds all is no business of this file: the greedy planner looks at each.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from ortools.sat.python import cp_model

from peerinfer.placement.problem import Problem
from peerinfer.placement.ranking import objective, plan_of
from peerinfer.placement.solver_calls import Chain
from peerinfer.placement.tables import FIRST, LAST, MIDDLE, Floats, Tables, tabulate

STEPS: Final = 1 << 22
"""Of the value to beat: each layer and hop is rounded by half of one at most."""
GAIN: Final = 1e-5
"""Share of the value to beat by which a chain must be better to be of interest."""
WORKERS: Final = 2
"""Threads of the solver: it runs beside engines."""


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
        self.model = cp_model.CpModel()
        self.scale = STEPS / to_beat
        self.limit = math.floor(STEPS * (1 - GAIN))
        self.count = len(tables.nodes)
        self.most = tables.most()
        layers = tables.layers
        new = self.model.new_bool_var
        self.used = [new(f"used {number}") for number in range(self.count)]
        self.first = [new(f"first {number}") for number in range(self.count)]
        self.last = [new(f"last {number}") for number in range(self.count)]
        self.sizes = [self.model.new_int_var(0, int(self.most[MIDDLE, i]), f"layers {i}") for i in range(self.count)]
        self.arcs: dict[tuple[int, int], cp_model.IntVar] = {}
        self.closing: dict[tuple[int, int], cp_model.IntVar] = {}
        self.model.add(sum(self.sizes) == layers)
        self.model.add(sum(self.first) == 1)
        self.model.add(sum(self.last) == 1)
        self.model.add(sum(self.used) >= max(2, tables.problem.min_nodes))
        self._limit_sizes()
        self._ring()
        if len(tables.cuts) < layers + 1:
            self._positions()
        self._objective()

    def steps(self, value: float) -> int:
        return round(value * self.scale)

    def _limit_sizes(self) -> None:
        for number in range(self.count):
            middle, first, last = (int(self.most[kind, number]) for kind in (MIDDLE, FIRST, LAST))
            used, is_first, is_last = self.used[number], self.first[number], self.last[number]
            if not first:
                self.model.add(is_first == 0)
            if not last:
                self.model.add(is_last == 0)
            if not middle:
                self.model.add(used == 0)
            self.model.add(
                self.sizes[number] <= middle * used - (middle - first) * is_first - (middle - last) * is_last
            )
            self.model.add(self.sizes[number] >= used)
            self.model.add(is_first + is_last <= used)

    def _ring(self) -> None:
        """The circuit leaves the depot (number `count`) to the first stage, and comes back to it from the last."""
        hop, back, model = self.tables.hop, self.tables.back, self.model
        places = range(self.count)
        arcs: list[tuple[int, int, object]] = [(number, number, ~self.used[number]) for number in places]
        arcs += [(self.count, number, self.first[number]) for number in places]
        arcs += [(number, self.count, self.last[number]) for number in places]
        for origin in places:
            for target in places:
                if origin == target or not np.isfinite(hop[origin, target]):
                    continue
                if self.policy == "spread" or self.steps(hop[origin, target]) <= self.limit:
                    arc = self.arcs[origin, target] = model.new_bool_var(f"{origin} to {target}")
                    arcs.append((origin, target, arc))
                self.closing[origin, target] = model.new_bool_var(f"{origin} back to {target}")
        model.add_circuit(arcs)
        for number in places:
            begins = [arc for (_, target), arc in self.closing.items() if target == number]
            ends = [arc for (origin, _), arc in self.closing.items() if origin == number]
            model.add(sum(begins) == self.first[number])
            model.add(sum(ends) == self.last[number])

    def _positions(self) -> None:
        layers = self.tables.layers
        cuts = cp_model.Domain.from_values([int(cut) for cut in self.tables.cuts])
        self.starts = [self.model.new_int_var_from_domain(cuts, f"start {i}") for i in range(self.count)]
        self.ends = [self.model.new_int_var_from_domain(cuts, f"end {i}") for i in range(self.count)]
        for number in range(self.count):
            start, end = self.starts[number], self.ends[number]
            self.model.add(end - start == self.sizes[number])
            self.model.add(start == 0).only_enforce_if(self.first[number])
            self.model.add(end == layers).only_enforce_if(self.last[number])
            self.model.add(start == 0).only_enforce_if(~self.used[number])
        for (origin, target), arc in self.arcs.items():
            self.model.add(self.ends[origin] == self.starts[target]).only_enforce_if(arc)

    def _objective(self) -> None:
        hop, back = self.tables.hop, self.tables.back
        times = [self._time(number) for number in range(self.count)]
        if self.policy == "latency":
            total = sum(times)
            total += sum(self.steps(hop[pair]) * arc for pair, arc in self.arcs.items())
            total += sum(self.steps(back[pair]) * arc for pair, arc in self.closing.items())
            self.model.add(total <= self.limit)
            self.model.minimize(total)
            return
        pace = self.model.new_int_var(0, self.limit, "pace")
        for time in times:
            self.model.add(time <= pace)
        if self.policy == "throughput":
            for origin in range(self.count):
                self.model.add(sum(self.steps(hop[pair]) * arc for pair, arc in self.arcs.items() if pair[0] == origin) <= pace)
        self.model.minimize(pace)

    def _time(self, number: int) -> cp_model.LinearExprT:
        """What the stage of a node takes, or its share under `spread`; nothing without one."""
        values = self.tables.share if self.policy == "spread" else self.tables.us
        middle = values[MIDDLE, number, 1 : self.most[MIDDLE, number] + 1]
        last = values[LAST, number, 1 : self.most[LAST, number] + 1]
        used, is_last, size = self.used[number], self.last[number], self.sizes[number]
        if not len(middle):
            return 0
        lines = _hull(middle)
        extra = float((last - middle[: len(last)]).min()) if len(last) else 0.0
        if self.policy == "spread":
            extra_first = values[FIRST, number, 1] - middle[0] if self.most[FIRST, number] else 0.0
        is_line = len(lines) == 1 and lines[0].is_exact and np.allclose(last - middle[: len(last)], extra, rtol=1e-9)
        if is_line:
            base, slope = lines[0].base, lines[0].slope
            time = self.steps(base) * used + self.steps(slope) * size + self.steps(extra) * is_last
            if self.policy == "spread":
                time += self.steps(extra_first) * self.first[number]
            return time
        time = self.model.new_int_var(0, self.limit, f"time {number}")
        for line in lines:
            self.model.add(
                time >= self.steps(line.base) * used + self.steps(line.slope) * size + self.steps(extra) * is_last
            )
        if not all(line.is_exact for line in lines):
            self._element(time, middle, size, used)
        last_lines = _hull(last) if len(last) else []
        for line in last_lines:
            self.model.add(time >= self.steps(line.base) + self.steps(line.slope) * size).only_enforce_if(is_last)
        if not all(line.is_exact for line in last_lines):
            self._element(time, last, size, is_last)
        return time

    def _element(self, time: cp_model.IntVar, values: Floats, size: cp_model.IntVar, holds: cp_model.IntVar) -> None:
        """`time` is at least the value of that many layers, if `holds`."""
        steps = [0, *(self.steps(value) for value in values)]
        steps += [0] * (self.tables.layers + 1 - len(steps))
        least = self.model.new_int_var(0, max(steps), "")
        self.model.add_element(size, steps, least)
        self.model.add(time >= least).only_enforce_if(holds)

    def run(self, limit_s: float, hint: Chain | None) -> Chain:
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = limit_s
        solver.parameters.num_workers = WORKERS
        self.solver = solver
        if hint is not None:
            self._hint(hint)
        status = solver.solve(self.model)
        if status == cp_model.INFEASIBLE:
            return Chain(is_proven=True)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return Chain()
        following = {origin: target for (origin, target), arc in self.arcs.items() if solver.value(arc)}
        at = next(number for number in range(self.count) if solver.value(self.first[number]))
        order = [at]
        while at in following:
            at = following[at]
            order.append(at)
        ends = np.cumsum([solver.value(self.sizes[number]) for number in order])
        nodes = tuple(self.tables.nodes[number].node for number in order)
        return Chain(nodes, tuple(int(end) for end in ends), status == cp_model.OPTIMAL)

    def _hint(self, hint: Chain) -> None:
        place = {node.node: number for number, node in enumerate(self.tables.nodes)}
        order = [place[node] for node in hint.nodes]
        sizes = dict(zip(order, np.diff([0, *hint.ends]), strict=True))
        for number in range(self.count):
            self.model.add_hint(self.used[number], number in order)
            self.model.add_hint(self.sizes[number], int(sizes.get(number, 0)))
            self.model.add_hint(self.first[number], number == order[0])
            self.model.add_hint(self.last[number], number == order[-1])
        pairs = set(zip(order, order[1:], strict=False))
        for pair, arc in self.arcs.items():
            self.model.add_hint(arc, pair in pairs)
        for pair, arc in self.closing.items():
            self.model.add_hint(arc, pair == (order[-1], order[0]))


@dataclass(frozen=True, slots=True)
class Line:
    """`base + slope · layers`, below a table and touching it."""

    base: float
    slope: float
    is_exact: bool
    """Whether the table lies on it from where it begins to where the next one does."""


def _hull(values: Floats) -> list[Line]:
    """The lines of the lower convex hull of `values`, which stand for 1, 2 … layers."""
    if len(values) == 1:
        return [Line(float(values[0]), 0.0, is_exact=True)]
    corners: list[int] = []
    slack = 1e-9 * float(np.abs(values).max())
    for place in range(len(values)):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            # b lies on or above the line from a to place
            if values[b] - values[a] < (values[place] - values[a]) * (b - a) / (place - a) - slack:
                break
            corners.pop()
        corners.append(place)
    lines: list[Line] = []
    for a, b in zip(corners, corners[1:], strict=False):
        slope = float(values[b] - values[a]) / (b - a)
        base = float(values[a]) - slope * (a + 1)
        inner = base + slope * np.arange(a + 1, b + 2)
        lines.append(Line(base, slope, bool((np.abs(values[a : b + 1] - inner) <= slack).all())))
    return lines
