"""A good plan at once, without a solver: the hint for one, and the answer where there is none.

Nodes are added fastest first, roomiest first under `spread`; each set is put in order by its links from every start,
cut exactly (`split.py`), and then improved by leaving nodes out, exchanging and swapping them, until nothing helps or
the work is used up. One node that holds everything is a set like any other, so it wins where it is faster.

Where nodes and links are equal every order is the same, so the exact cut of each number of nodes is the best plan there
is; and where one node holds the model and nobody is faster at anything, nothing can beat it. Those plans are `rule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from typing import Final

import numpy as np

from peerinfer.errors import NoPlacement
from peerinfer.placement.costs import placed, predict
from peerinfer.placement.plan import Plan, Stages
from peerinfer.placement.problem import NodeNumbers, Problem
from peerinfer.placement.shortage import why_not
from peerinfer.placement.split import Split, cost_of, split
from peerinfer.placement.tables import WHOLE, Tables

NODES_MAX: Final = 64
"""Nodes looked at: 64 stages would spend a second per token on hops alone."""
WORK_MAX: Final = 1200
"""Stages that are cut in all: each takes 10 to 50 µs, so a home mesh is searched to the end, and 32 nodes in 50 ms."""
FIT_WORK_MAX: Final = 20_000
"""The same where nothing was found to fit: then it is worth a second to find anything."""
ALL_STARTS: Final = 6
FEW_STARTS: Final = 2
"""In rings of up to six every node is tried as the beginning, in larger ones two."""
EQUAL: Final = 1e-9
"""Costs that differ by less, in proportion, are equal: the rest is rounding."""


def place(problem: Problem) -> Plan:
    """The best plan that is found quickly. Raises `NoPlacement` with a sentence on what is short and what to try."""
    tables = Tables(problem)
    search = _Search(tables)
    if _are_equal(problem):
        found, is_rule = search.equal(), True
    else:
        found = search.best()
        is_rule = found is not None and len(found.order) == 1 and _is_unbeatable(tables, found)
    if found is None:
        raise NoPlacement(why_not(problem))
    return as_plan(problem, found, "rule" if is_rule else "greedy", is_optimal=is_rule)


def as_plan(problem: Problem, found: Split, solver: str, *, is_optimal: bool) -> Plan:
    """A split as a plan."""
    starts = (0, *found.ends[:-1])
    nodes = [problem.nodes[number].node for number in found.order]
    drawn = (placed(problem, *one) for one in zip(nodes, starts, found.ends, strict=True))
    stages: Stages = tuple(stage for stage in drawn if stage is not None)
    return Plan(stages, predict(problem, stages), solver, is_optimal)


class _Search:
    """Keeps the best split that was seen, and counts the work."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._problem = tables.problem
        self._policy = tables.problem.policy
        self._best: Split | None = None
        self._work = 0
        self._seen: set[tuple[int, ...]] = set()
        blocks = len(tables.cuts) - 1
        able = [number for number, table in enumerate(tables.nodes) if np.isfinite(table.us).any()]
        self._ranked = sorted(able, key=self._rank)[:NODES_MAX]
        self._room = [max(table.capacity(place) for place in range(4)) for table in tables.nodes]
        self._fewest = max(1, self._problem.min_nodes)
        self._most = min(len(self._ranked), blocks)

    def equal(self) -> Split | None:
        """The best of equal nodes: each number of them, cut exactly; of equally good cuts the most even ones."""
        order = sorted(self._ranked, key=self._precedence)
        for count in range(self._fewest, self._most + 1):
            self._try(order[:count])
        return self._evened()

    def best(self) -> Split | None:
        """The best that is found."""
        if self._fewest == 1:
            for number in sorted(self._ranked, key=self._precedence):
                self._try((number,))
        for count in range(max(2, self._fewest), self._most + 1):
            if self._work > WORK_MAX // 2:
                break
            for order in self._orders(self._ranked[:count]):
                self._try(order)
        if self._best is None:
            self._fit()
        while self._best is not None and self._work < WORK_MAX and self._improve():
            pass
        return self._evened()

    def _evened(self) -> Split | None:
        """The best; if cuts that share the memory more evenly are as good, with those."""
        best = self._best
        if best is None or len(best.order) == 1 or self._policy == "spread":
            return best
        even = split(self._tables, best.order, "spread")
        if even is None or cost_of(self._tables, even.order, even.ends, self._policy) > best.cost * (1 + EQUAL):
            return best
        return Split(best.order, even.ends, best.cost)

    def _try(self, order: Sequence[int]) -> bool:
        """Whether this order is better than all before."""
        key = tuple(order)
        if key in self._seen or not self._fewest <= len(key) <= self._most:
            return False
        if sum(self._room[number] for number in key) < self._problem.model.layers:
            return False
        self._seen.add(key)
        self._work += len(key)
        below = np.inf if self._best is None else self._best.cost * (1 - EQUAL)
        found = split(self._tables, key, self._policy, below)
        if found is None:
            return False
        self._best = found
        return True

    def _orders(self, chosen: Sequence[int]) -> Iterator[list[int]]:
        """From each start to the nearest that is left; the node that asks first."""
        hops = self._tables.hop_us
        starts = len(chosen) if len(chosen) <= ALL_STARTS else FEW_STARTS
        for start in sorted(chosen, key=self._precedence)[:starts]:
            left = [number for number in chosen if number != start]
            order = [start]
            while left:
                nearest = min(left, key=lambda number: (hops[order[-1], number], chosen.index(number)))
                left.remove(nearest)
                order.append(nearest)
            yield order

    def _improve(self) -> bool:
        """One step to something better: a node less, another in its place, one more, or two that change places."""
        if self._best is None:
            return False
        order = list(self._best.order)
        others = [number for number in self._ranked if number not in order]
        return any(self._work < WORK_MAX and self._try(each) for each in _neighbours(order, others))

    def _fit(self) -> None:
        """Any way that fits: every pair of first and last, with the roomiest nodes between them."""
        roomy = sorted(self._ranked, key=lambda number: -self._tables.nodes[number].capacity())
        for count in range(max(2, self._fewest), self._most + 1):
            for head, tail in permutations(roomy, 2):
                between = [number for number in roomy if number not in (head, tail)][: count - 2]
                if self._try((head, *between, tail)):
                    return
            if self._work > FIT_WORK_MAX:
                return

    def _rank(self, number: int) -> tuple[float, int, str]:
        """Fastest first, by the time of a layer where it runs as many as it can; under `spread` the roomiest."""
        node, table = self._problem.nodes[number], self._tables.nodes[number]
        most = max(1, table.capacity())
        layer_us = 0.0 if self._policy == "spread" else float(table.us[:, most].min()) / most
        if not np.isfinite(layer_us):
            layer_us = float(np.nanmin(np.where(np.isfinite(table.us), table.us, np.nan)))
        return (layer_us, -node.memory_bytes, node.node)

    def _precedence(self, number: int) -> tuple[bool, bool, int, str]:
        """Of nodes that are equally good: who has the model, who asks, who has most room."""
        node = self._problem.nodes[number]
        solo = self._fewest == 1 and bool(np.isfinite(self._tables.nodes[number].us[WHOLE, -1]))
        has_it = solo and node.node in self._problem.holders
        return (not has_it, node.node != self._problem.first, -node.memory_bytes, node.node)


def _neighbours(order: list[int], others: list[int]) -> Iterator[list[int]]:
    for at in range(len(order)):
        yield [*order[:at], *order[at + 1 :]]
    for at in range(len(order)):
        for other in others:
            yield [*order[:at], other, *order[at + 1 :]]
    for at in range(len(order) + 1):
        for other in others:
            yield [*order[:at], other, *order[at:]]
    for at in range(len(order)):
        for to in range(len(order)):
            if at != to:
                moved = [*order[:at], *order[at + 1 :]]
                moved.insert(to, order[at])
                yield moved
    for a in range(len(order)):
        for b in range(a + 1, len(order)):
            swapped = order.copy()
            swapped[a], swapped[b] = order[b], order[a]
            yield swapped


def _are_equal(problem: Problem) -> bool:
    """Whether nodes differ by their names only, and every pair by its link alike."""
    numbers = {_plain(node) for node in problem.nodes}
    wires = problem.wires()
    links = {(link.latency_us, link.bytes_per_s) for link in wires.values()}
    pairs = len(problem.nodes) * (len(problem.nodes) - 1)
    return len(numbers) <= 1 and len(links) <= 1 and len(wires) in (0, pairs)


def _plain(node: NodeNumbers) -> tuple[object, ...]:
    return (node.devices, node.stage_us, node.stage_bytes, node.layers_max, node.table_us)


def _is_unbeatable(tables: Tables, found: Split) -> bool:
    """Whether no ring could be faster than this one node: nobody has quicker layers, a quicker head, or less to add."""
    problem = tables.problem
    if problem.policy != "latency":
        return False
    layer_us = min(_quickest(node) for node in problem.nodes)
    head_us = min(device.head_us for node in problem.nodes for device in node.devices)
    stage_us = min(node.stage_us for node in problem.nodes)
    return found.cost <= (layer_us * problem.model.layers + head_us + stage_us) * (1 + EQUAL)


def _quickest(node: NodeNumbers) -> float:
    """The least time of one layer, however many it runs."""
    if node.table_us:
        each = (us / count for count, us in enumerate(node.table_us) if count)
        return _least(each)
    return _least(device.layer_us for device in node.devices)


def _least(values: Iterable[float]) -> float:
    return min(values, default=0.0)
