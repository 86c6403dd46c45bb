"""The best cuts for nodes that stand in a given order, by dynamic programming over the cuts: exact for that order.

A state is "the first i stages end at cut b"; a further stage goes from any cut a < b. Times add up under `latency`;
under `throughput` and `spread` the largest counts. `select` also leaves nodes out: of an order of all nodes it finds
the best chain that begins with the first of them and takes any of the others in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from peerinfer.placement.tables import FIRST, LAST, MIDDLE, Floats, Tables, Whole

STAGE_US: Final = 1e-6
"""Added for each stage under `latency`, so that of equal chains the shorter one comes out. Far below any clock."""

SHARES: Final = 1024
"""Steps of the largest share of a memory, in which a smaller one is looked for."""
SLACK: Final = 1e-9
"""Relative difference of values that are the same but for rounding."""

Order = tuple[int, ...]
"""Numbers of nodes in ring order, at least two."""


class Chains:
    """Values of chains over some of the cuts. With all of them it is exact, with fewer it is quick."""

    def __init__(self, values: Floats, hop: Floats, back: Floats, cuts: Whole, *, adds: bool) -> None:
        """`values`, `hop` and `back` as in `Tables`; `adds` says whether they add up, or the largest counts."""
        self.hop = hop
        self._back = back
        self._values = values
        self._cuts = cuts
        self._join: Callable[..., Floats] = np.add if adds else np.maximum
        self.size = len(cuts)
        self._layers = values.shape[2] - 1
        sizes = cuts[None, :] - cuts[:, None]
        self._sizes = np.where(sizes > 0, sizes, self._layers + 1)
        self._ways: dict[int, Floats] = {}

    def value(self, order: Order) -> float:
        """What the best cuts of this order come to; inf if there are none."""
        return float(self._finish(self._forward(order)[-1], order).min())

    def split(self, order: Order) -> tuple[float, list[int]]:
        """That, and where each stage ends; the ends are empty if it is inf."""
        steps = self._forward(order)
        totals = self._finish(steps[-1], order)
        at = int(totals.argmin())
        total = float(totals[at])
        if not np.isfinite(total):
            return total, []
        ends = [self._layers, int(self._cuts[at])]
        for number in range(len(order) - 2, 0, -1):
            ways = self._join(steps[number - 1], self.hop[order[number - 1], order[number]])
            at = int(self._join(ways, self._way(order[number])[:, at]).argmin())
            ends.append(int(self._cuts[at]))
        return total, ends[::-1]

    def select(self, order: Order) -> tuple[float, Order]:
        """The best chain of `order[0]` and any of the others in this order; at least two nodes."""
        count, hops = len(order), self.hop[np.ix_(order, order)]
        states = np.full((count, len(self._cuts)), np.inf)  # the chain ends with this node, at that cut
        arrived = np.full((count, len(self._cuts)), np.inf)  # the same before its stage
        closed = np.full(count, np.inf)
        states[0] = self._first(order[0])
        for at in range(1, count):
            node = order[at]
            arrived[at] = self._join(states[:at], hops[:at, at, None]).min(axis=0)
            closed[at] = self._join(self._join(arrived[at], self._last(node)).min(), self._back[node, order[0]])
            states[at] = self._join(arrived[at], self._way(node).T).min(axis=1)
        at = int(closed.argmin())
        total = float(closed[at])
        if not np.isfinite(total):
            return total, ()
        chain = [order[at]]
        cut = int(self._join(arrived[at], self._last(order[at])).argmin())
        while (at := int(self._join(states[:at, cut], hops[:at, at]).argmin())) > 0:
            chain.append(order[at])
            cut = int(self._join(arrived[at], self._way(order[at])[:, cut]).argmin())
        return total, (order[0], *chain[::-1])

    def _forward(self, order: Order) -> list[Floats]:
        """(cuts,) for each stage but the last: the best value of the chain up to it, by where it ends."""
        steps = [self._first(order[0])]
        for before, node in pairwise(order[:-1]):
            ways = self._join(steps[-1], self.hop[before, node])
            steps.append(self._join(ways, self._way(node).T).min(axis=1))
        return steps

    def _finish(self, step: Floats, order: Order) -> Floats:
        totals = self._join(self._join(step, self.hop[order[-2], order[-1]]), self._last(order[-1]))
        return self._join(totals, self._back[order[-1], order[0]])

    def _first(self, node: int) -> Floats:
        values = self._values[FIRST, node, self._cuts]
        values[0] = np.inf
        return values

    def _last(self, node: int) -> Floats:
        values = self._values[LAST, node, self._layers - self._cuts]
        values[-1] = np.inf
        return values

    def _way(self, node: int) -> Floats:
        """(cuts, cuts) value of a stage in the middle from one cut to another."""
        way = self._ways.get(node)
        if way is None:
            padded = np.append(self._values[MIDDLE, node], np.inf)
            way = self._ways[node] = padded[self._sizes].T.copy().T  # read by columns
        return way


def chains(tables: Tables, cuts: Whole) -> Chains:
    """By what the problem's policy minimises."""
    policy = tables.problem.policy
    if policy == "latency":
        return Chains(tables.us + STAGE_US, tables.hop, tables.back, cuts, adds=True)
    back = np.where(np.isfinite(tables.back), 0.0, np.inf)  # the way back slows no pipeline, but must be there
    if policy == "throughput":
        return Chains(tables.us, tables.hop, back, cuts, adds=False)
    return Chains(tables.share, np.where(np.isfinite(tables.hop), 0.0, np.inf), back, cuts, adds=False)


def settled(tables: Tables, order: Order) -> list[int]:
    """Where the stages of `order` end: of the cuts that are best by the policy those that are best by what comes next.

    That is the time of a token under `throughput` and `spread`, and under `latency` the largest share of a memory.
    Empty if the order cannot hold the model.
    """
    best, ends = chains(tables, tables.cuts).split(order)
    if not ends:
        return ends
    limit = best * (1 + SLACK) + SLACK
    policy = tables.problem.policy
    if policy != "latency":
        bounded = tables.us if policy == "throughput" else tables.share
        values = np.where(bounded <= limit, tables.us, np.inf)
        hop = np.where(tables.hop <= limit, tables.hop, np.inf) if policy == "throughput" else tables.hop
        return Chains(values, hop, tables.back, tables.cuts, adds=True).split(order)[1]
    step = _largest_share(tables, order, ends) / SHARES  # of this chain's own: a small model fills little of a memory
    low, high = 1, SHARES
    middle = high - 1  # most often nothing can be shifted without loss, which this one look shows
    while low < high:
        values = np.where(tables.share <= middle * step * (1 + SLACK), tables.us + STAGE_US, np.inf)
        value, found = Chains(values, tables.hop, tables.back, tables.cuts, adds=True).split(order)
        if value > limit:
            low = middle + 1
        else:
            high, ends = middle, found
        middle = (low + high) // 2
    return ends


def _largest_share(tables: Tables, order: Order, ends: list[int]) -> float:
    """The largest share of a memory that a node of this chain gives."""
    kinds = [FIRST, *[MIDDLE] * (len(order) - 2), LAST]
    sizes = np.diff([0, *ends])
    return float(max(tables.share[kinds, list(order), sizes]))
