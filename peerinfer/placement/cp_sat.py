"""The exact planner: a constraint program for OR-tools' CP-SAT. Imported by the solver's child process only.

One circuit goes from a depot through the nodes that hold layers, in ring order, and back; a node that holds none loops
to itself. Each node has whole numbers for its first and last layer, never one boolean per layer. What a stage takes is
linear in its layers where the node has one device, and looked up in a table where it has several or was measured by
counts. Times are counted in units small enough that rounding is far below a ten-thousandth of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ortools.sat.python import cp_model

from peerinfer.placement.split import Split
from peerinfer.placement.tables import FIRST, LAST, MIDDLE, WHOLE, Tables

UNITS: Final = 1_000_000
"""Of the objective of the plan to be beaten: its parts are whole numbers of a millionth of it."""
WORKERS: Final = 2
"""More would take the cores that the engines compute with."""
FAR: Final = 1000
"""What cannot be, in objectives of the plan to be beaten."""

_sat: Any = cp_model


@dataclass(frozen=True, slots=True)
class Solved:
    """What the solver found."""

    split: Split | None
    is_optimal: bool
    """Whether it proved that nothing is better, or that there is nothing."""


class Program:
    """One problem as a constraint program."""

    def __init__(self, tables: Tables, hint: Split | None) -> None:
        """`hint` is a plan that fits; without one the objective is bounded by what every node could take alone."""
        self._tables = tables
        self._problem = tables.problem
        self._policy = tables.problem.policy
        self._count = len(tables.nodes)
        self._layers = tables.problem.model.layers
        self._hint = hint
        bound = hint.cost if hint is not None else self._loose_bound()
        self._unit = max(bound, 1e-9) / UNITS
        """Of the objective."""
        self._most = UNITS if hint is not None else 4 * UNITS
        self._model: Any = _sat.CpModel()
        self._make_ring()
        self._make_layers()
        self._make_objective()

    def solve(self, limit_s: float) -> Solved:
        """The best plan within `limit_s` seconds."""
        if self._hint is not None:
            self._give_hint(self._hint)
        solver: Any = _sat.CpSolver()
        solver.parameters.max_time_in_seconds = limit_s
        solver.parameters.num_workers = WORKERS
        status = solver.solve(self._model)
        if status in (_sat.OPTIMAL, _sat.FEASIBLE):
            return Solved(self._read(solver), status == _sat.OPTIMAL)
        return Solved(None, status == _sat.INFEASIBLE)

    # The ring

    def _make_ring(self) -> None:
        model, count = self._model, self._count
        self._first = [model.new_bool_var(f"first {i}") for i in range(count)]
        self._last = [model.new_bool_var(f"last {i}") for i in range(count)]
        self._used = [model.new_bool_var(f"used {i}") for i in range(count)]
        self._next: dict[tuple[int, int], Any] = {}
        arcs: list[tuple[int, int, Any]] = []
        for i in range(count):
            arcs += [(0, i + 1, self._first[i]), (i + 1, 0, self._last[i]), (i + 1, i + 1, self._used[i].negated())]
            for j in range(count):
                if i != j and np.isfinite(self._tables.hop_us[i, j]):
                    self._next[i, j] = model.new_bool_var(f"{i} to {j}")
                    arcs.append((i + 1, j + 1, self._next[i, j]))
        model.add_circuit(arcs)
        model.add(sum(self._used) >= max(1, self._problem.min_nodes))
        self._make_ways_back()

    def _make_ways_back(self) -> None:
        """A boolean for each pair of last and first: their sums are those of both, so the relaxation is tight."""
        model, back = self._model, self._tables.back_us
        self._back: dict[tuple[int, int], Any] = {}
        for i in range(self._count):
            for j in range(self._count):
                if i == j or np.isfinite(back[i, j]):
                    self._back[i, j] = model.new_bool_var(f"{i} back to {j}")
        for i in range(self._count):
            model.add(sum(lit for (last, _), lit in self._back.items() if last == i) == self._last[i])
            model.add(sum(lit for (_, first), lit in self._back.items() if first == i) == self._first[i])

    # Layers

    def _make_layers(self) -> None:
        model, layers = self._model, self._layers
        cuts = [int(cut) for cut in self._tables.cuts]
        starts = _sat.Domain.from_values(cuts[:-1])
        ends = _sat.Domain.from_values(cuts)  # 0 where it holds none
        self._start = [model.new_int_var_from_domain(starts, f"start {i}") for i in range(self._count)]
        self._end = [model.new_int_var_from_domain(ends, f"end {i}") for i in range(self._count)]
        self._held = [model.new_int_var(0, layers, f"held {i}") for i in range(self._count)]
        for i, used in enumerate(self._used):
            model.add(self._held[i] == self._end[i] - self._start[i])
            model.add(self._held[i] >= 1).only_enforce_if(used)
            model.add(self._start[i] == 0).only_enforce_if(used.negated())
            model.add(self._end[i] == 0).only_enforce_if(used.negated())
            model.add(self._start[i] == 0).only_enforce_if(self._first[i])
            model.add(self._end[i] == layers).only_enforce_if(self._last[i])
            self._bound_memory(i)
        for (i, j), follows in self._next.items():
            model.add(self._start[j] == self._end[i]).only_enforce_if(follows)
        model.add(sum(self._held) == layers)

    def _bound_memory(self, i: int) -> None:
        """As many layers as fit, wherever the node stands in the ring.

        The linear bounds are what makes the relaxation tight: a node that is used by half holds half of what it can.
        """
        model, held, used = self._model, self._held[i], self._used[i]
        first, last = self._first[i], self._last[i]
        middle, front, end, whole = (self._tables.nodes[i].capacity(place) for place in (MIDDLE, FIRST, LAST, WHOLE))
        model.add(held >= used)
        model.add(held <= max(middle, front, end, whole) * used)
        if middle >= max(front, end):
            model.add(held <= middle * used - (middle - front) * first)
            model.add(held <= middle * used - (middle - end) * last)
        model.add(held <= middle).only_enforce_if([first.negated(), last.negated()])
        model.add(held <= front).only_enforce_if([first, last.negated()])
        model.add(held <= end).only_enforce_if([first.negated(), last])
        model.add(held <= whole).only_enforce_if([first, last])

    # The objective

    def _make_objective(self) -> None:
        model = self._model
        costs = [self._cost(i) for i in range(self._count)]
        if self._policy == "latency":
            hops = sum(self._scaled(self._tables.hop_us[pair]) * lit for pair, lit in self._next.items())
            back = sum(self._scaled(self._tables.back_us[i, j]) * lit for (i, j), lit in self._back.items() if i != j)
            self._objective = sum(costs) + hops + back
        else:
            self._objective = model.new_int_var(0, self._most, "slowest")
            for cost in costs:
                model.add(self._objective >= cost)
            for pair, lit in self._next.items() if self._policy == "throughput" else ():
                model.add(self._objective >= self._scaled(self._tables.hop_us[pair])).only_enforce_if(lit)
        model.add(self._objective <= self._most)
        model.minimize(self._objective)

    def _cost(self, i: int) -> Any:
        """What node `i` takes, in units."""
        by_share = self._policy == "spread"
        node = self._problem.nodes[i]
        table = self._tables.nodes[i].share if by_share else self._tables.nodes[i].us
        if len(node.devices) == 1 and not (node.table_us and not by_share):
            return self._linear(i, table)
        values = [self._scaled(float(value)) for value in table.reshape(-1)]
        for place in range(4):
            values[place * (self._layers + 1)] = 0  # holds none
        cost = self._model.new_int_var(0, self._most, f"cost {i}")
        index = self._held[i] + (self._layers + 1) * (FIRST * self._first[i] + LAST * self._last[i])
        self._model.add_element(index, values, cost)
        return cost

    def _linear(self, i: int, table: np.ndarray) -> Any:
        """The same where it is a straight line in each place: what a layer takes, and what each end adds."""
        steps = {place: self._line(table[place]) for place in range(4)}
        slope = max(line[1] for line in steps.values())
        base = steps[MIDDLE][0]
        first = steps[FIRST][0] - base if np.isfinite(steps[FIRST][0]) and np.isfinite(base) else 0.0
        last = steps[LAST][0] - base if np.isfinite(steps[LAST][0]) and np.isfinite(base) else 0.0
        base = base if np.isfinite(base) else 0.0
        return (
            self._scaled(slope) * self._held[i]
            + self._scaled(base) * self._used[i]
            + self._scaled(first) * self._first[i]
            + self._scaled(last) * self._last[i]
        )

    @staticmethod
    def _line(row: np.ndarray) -> tuple[float, float]:
        """(at 0 layers, for each) of a row that is a straight line; infinite where nothing fits."""
        fitting = np.flatnonzero(np.isfinite(row))
        if fitting.size == 0:
            return float("inf"), 0.0
        one = float(row[fitting[0]])
        slope = float(row[fitting[-1]] - one) / (fitting[-1] - fitting[0]) if fitting.size > 1 else 0.0
        return one - slope * fitting[0], slope

    def _scaled(self, cost: float) -> int:
        return round(cost / self._unit) if cost < FAR * UNITS * self._unit else FAR * UNITS

    def _loose_bound(self) -> float:
        """More than any ring takes: every node at its worst, and every link."""
        finite = [float(table.us[np.isfinite(table.us)].max(initial=0.0)) for table in self._tables.nodes]
        if self._policy == "spread":
            return 1.0
        hops = self._tables.hop_us[np.isfinite(self._tables.hop_us)]
        return sum(finite) + float(hops.max(initial=0.0)) * (self._count + 1)

    # The answer

    def _give_hint(self, hint: Split) -> None:
        model, starts = self._model, (0, *hint.ends[:-1])
        places = {number: at for at, number in enumerate(hint.order)}
        for i in range(self._count):
            at = places.get(i)
            model.add_hint(self._used[i], at is not None)
            model.add_hint(self._first[i], at == 0)
            model.add_hint(self._last[i], at == len(places) - 1)
            model.add_hint(self._start[i], 0 if at is None else starts[at])
            model.add_hint(self._end[i], 0 if at is None else hint.ends[at])
        for (i, j), lit in self._next.items():
            model.add_hint(lit, i in places and j in places and places[j] == places[i] + 1)

    def _read(self, solver: Any) -> Split:
        order = [next(i for i, lit in enumerate(self._first) if solver.value(lit))]
        while not solver.value(self._last[order[-1]]):
            here = order[-1]
            order.append(next(j for (i, j), lit in self._next.items() if i == here and solver.value(lit)))
        ends = tuple(int(solver.value(self._end[i])) for i in order)
        return Split(tuple(order), ends, solver.objective_value * self._unit)
