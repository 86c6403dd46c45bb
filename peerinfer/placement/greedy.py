"""The greedy planner: in a few milliseconds a sound plan that is nearly the best, with no solver.

Every node that holds all is looked at alone. For chains every promising start is tried: the others are put in order,
by speed and by the nearest link, and `Chains.select` takes of that order who is worth it, with the best cuts. The best
orders are then improved by moving nodes, within a bounded number of tries. Besides, the fewest nodes with most memory
are looked at: so that a plan is found if there is one, where any layer may be cut and every node reaches every other,
and so that a mesh in which nothing was measured is filled by memory. Where cuts or links are restricted, an exotic fit
can be missed; the solver finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from peerinfer.errors import NoPlacement
from peerinfer.placement.chains import Chains, Order, chains, settled
from peerinfer.placement.memory_fit import fewest
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from peerinfer.placement.ranking import best, plan_of
from peerinfer.placement.refusal import why_not
from peerinfer.placement.tables import MIDDLE, SOLO, Floats, Tables, Whole, tabulate

NODES_MAX: Final = 64
"""Nodes looked at, those with most memory first: 64 stages would spend a second per token on hops alone."""
STARTS_MAX: Final = 8
"""Nodes tried as the first of a chain, the fastest ones: a slow first stage is seldom worth it."""
CUTS_MAX: Final = 33
"""Cuts looked at while orders are compared; the order that is taken is cut exactly."""
TRIES_MAX: Final = 100
"""Changes of an order that are tried, each some tens of microseconds."""
KEPT: Final = 3
"""Orders that are improved."""


def place(problem: Problem) -> Plan:
    """A good plan for `problem`.

    Raises `NoPlacement` with a sentence that says what is short, what to try, and who was left out and why.
    """
    found = find(problem)
    if found is None:
        raise NoPlacement(why_not(problem))
    return found


def find(problem: Problem) -> Plan | None:
    """The same; None if no plan was found."""
    plans: list[Plan] = []
    tables = tabulate(_largest(problem))
    if problem.min_nodes <= 1:
        solos = [node.node for number, node in enumerate(tables.nodes) if np.isfinite(tables.us[SOLO, number, -1])]
        plans += [plan for node in solos if (plan := plan_of(problem, [node], [problem.model.layers], "greedy"))]
    if len(tables.nodes) > 1 and len(tables.cuts) > 2:
        for order in dict.fromkeys(_orders(tables)):
            ends = settled(tables, order)
            plan = plan_of(problem, [tables.nodes[number].node for number in order], ends, "greedy") if ends else None
            plans += [plan] if plan else []
    return best(problem, plans)


def _largest(problem: Problem) -> Problem:
    """The problem with those nodes only that have most memory."""
    ranked = sorted(problem.nodes, key=lambda node: (-node.memory_bytes, node.node != problem.first, node.node))
    return replace(problem, nodes=tuple(ranked[:NODES_MAX]))


def _orders(tables: Tables) -> Iterator[Order]:
    """Orders worth cutting exactly."""
    places = np.unique(np.linspace(0, len(tables.cuts) - 1, CUTS_MAX).round().astype(np.int64))
    coarse = chains(tables, tables.cuts[places])
    most = tables.most()
    able = [number for number in range(len(tables.nodes)) if most[:SOLO, number].any()]
    pace = _pace(tables, most)
    able.sort(key=lambda number: (pace[number], number))
    found = [coarse.select(order) for order in _starts(tables, able)]
    kept = sorted({one for one in found if one[1]}, key=lambda one: (one[0], len(one[1]), one[1]))[:KEPT]
    for _, order in kept:
        grown = _grown(coarse, order, able, tables.problem.min_nodes)
        if grown:
            yield from _with_first(tables, _improved(coarse, grown, tables))
    by_memory = fewest(tables, most)
    if by_memory:
        yield by_memory


def _pace(tables: Tables, most: Whole) -> Floats:
    """(nodes,) time of a layer on a full node, under `spread` its share of the memory: less is better."""
    values = tables.share if tables.problem.policy == "spread" else tables.us
    full = np.maximum(most[MIDDLE], 1)
    paces = values[MIDDLE, np.arange(len(tables.nodes)), full] / full
    return np.where(np.isfinite(paces), paces, np.inf)


def _starts(tables: Tables, able: list[int]) -> Iterator[Order]:
    """For each start the others by speed, and by the nearest link."""
    asking = [number for number in able if tables.nodes[number].node == tables.problem.first]
    for start in dict.fromkeys([*able[:STARTS_MAX], *asking]):
        others = [number for number in able if number != start]
        by_speed = (start, *others)
        yield by_speed
        chain = [start]
        while others:  # the fastest of those that are nearest
            hops = tables.hop[chain[-1], others]
            chain.append(others.pop(int(hops.argmin())))
        if tuple(chain) != by_speed:
            yield tuple(chain)


def _grown(coarse: Chains, order: Order, able: list[int], min_nodes: int) -> Order:
    """`order` with the best further nodes until it has `min_nodes`; empty if that cannot be."""
    while len(order) < min_nodes:
        wider = [
            (*order[:place], number, *order[place:])
            for number in able
            if number not in order
            for place in range(len(order) + 1)
        ]
        values = [(coarse.value(one), one) for one in wider]
        value, order = min(values, default=(np.inf, ()))
        if not np.isfinite(value):
            return ()
    return order


def _improved(coarse: Chains, order: Order, tables: Tables) -> Order:
    """`order` after changes that help, each tried in turn, until none does or the tries are used up."""
    value, tries = coarse.value(order), TRIES_MAX
    is_better = True
    while is_better and tries > 0:
        is_better = False
        for changed in _changes(order, tables):
            tries -= 1
            new = coarse.value(changed)
            if new < value or (new == value and len(changed) < len(order)):
                value, order, is_better = new, changed, True
                break
            if tries <= 0:
                break
    return order


def _changes(order: Order, tables: Tables) -> Iterator[Order]:
    """Drop a node, exchange it for one outside, put it elsewhere, add one: small changes first."""
    size = len(order)
    outside = [number for number in range(len(tables.nodes)) if number not in order]
    if size > max(2, tables.problem.min_nodes):
        yield from ((*order[:at], *order[at + 1 :]) for at in range(size))
    for at in range(size):
        rest = (*order[:at], *order[at + 1 :])
        yield from ((*rest[:to], order[at], *rest[to:]) for to in range(size) if to != at)
    yield from ((*order[:at], number, *order[at + 1 :]) for number in outside for at in range(size))
    yield from ((*order[:at], number, *order[at:]) for number in outside for at in range(size + 1))


def _with_first(tables: Tables, order: Order) -> Iterator[Order]:
    """`order`, and the same beginning with the node that asks."""
    yield order
    asking = [number for number in order if tables.nodes[number].node == tables.problem.first]
    if asking and order[0] != asking[0]:
        yield (asking[0], *(number for number in order if number != asking[0]))
