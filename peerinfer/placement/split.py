"""The best cuts for nodes in a given order: exact, by dynamic programming over the legal cuts.

With the order fixed, hops cost the same wherever the cuts are, so a chain is a shortest path (or one whose greatest
part is least) through the cuts, a stage at a time: O(stages · cuts²), done by numpy a stage at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from peerinfer.placement.tables import FIRST, LAST, WHOLE, Costs, Tables


@dataclass(frozen=True, slots=True)
class Split:
    """Where each stage of an order ends, and what the ring costs by the policy."""

    order: tuple[int, ...]
    ends: tuple[int, ...]
    cost: float
    """Microseconds per token under `latency`; of the slowest part under `throughput`; a share under `spread`."""


def split(tables: Tables, order: Sequence[int], policy: str, below: float = np.inf) -> Split | None:
    """The best split of all layers over `order`; None if it fits nowhere, or not with a cost under `below`."""
    by_share = policy == "spread"
    fixed = _hops(tables, order, policy)
    if fixed >= below:
        return None
    if len(order) == 1:
        table = tables.nodes[order[0]]
        cost = float((table.share if by_share else table.us)[WHOLE][-1])
        return Split(tuple(order), (int(tables.cuts[-1]),), max(cost, fixed)) if cost < below else None
    sums = policy == "latency"
    best = tables.ends(order[0], FIRST, by_share=by_share).copy()
    best[-1] = np.inf  # layers must be left for the others
    came: list[np.ndarray] = []
    for number in order[1:-1]:
        step = tables.between(number, by_share=by_share)
        through = best[:, None] + step if sums else np.maximum(best[:, None], step)
        origin = np.argmin(through, axis=0)
        came.append(origin)
        best = through[origin, np.arange(len(best))]
    tail = tables.ends(order[-1], LAST, by_share=by_share)
    total: Costs = best + tail if sums else np.maximum(best, tail)
    at = int(np.argmin(total))
    cost = float(total[at]) + fixed if sums else max(float(total[at]), fixed)
    if not cost < below:
        return None
    ends = [at]
    for origin in reversed(came):
        at = int(origin[at])
        ends.append(at)
    cuts = tables.cuts
    return Split(tuple(order), (*(int(cuts[end]) for end in reversed(ends)), int(cuts[-1])), cost)


def cost_of(tables: Tables, order: Sequence[int], ends: Sequence[int], policy: str) -> float:
    """What a ring costs with these cuts; infinite if it does not fit."""
    last = len(order) - 1
    costs: list[float] = []
    for at, (number, start, end) in enumerate(zip(order, (0, *ends[:-1]), ends, strict=True)):
        place = (FIRST if at == 0 else 0) | (LAST if at == last else 0)
        table = tables.nodes[number].share if policy == "spread" else tables.nodes[number].us
        costs.append(float(table[place][end - start]))
    fixed = _hops(tables, order, policy)
    return sum(costs) + fixed if policy == "latency" else max(*costs, fixed)


def _hops(tables: Tables, order: Sequence[int], policy: str) -> float:
    """What the links of a ring cost: their sum, or the slowest; infinite where one is missing, 0 by memory alone."""
    if len(order) == 1:
        return 0.0
    hops = [float(tables.hop_us[a, b]) for a, b in pairwise(order)]
    back = float(tables.back_us[order[-1], order[0]])
    if np.isinf(back) or any(np.isinf(hop) for hop in hops):
        return float("inf")
    if policy == "spread":
        return 0.0
    return sum(hops) + back if policy == "latency" else max(hops)
