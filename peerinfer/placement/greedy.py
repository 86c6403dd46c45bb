"""The greedy planner: in a few milliseconds a sound plan that is nearly the best, with no solver.

Every node that holds all is looked at alone. For chains every promising start is tried: the others are put in order,
by speed and by the nearest link, and `Chains.select` takes of that order who is worth it, with the best cuts. The best
of these are improved in turns: each node is put where its links are best, and it is chosen anew who takes part.

Besides, the fewest nodes with most memory are looked at: so that a plan is found if there is one, where any layer may
be cut and every node reaches every other, and so that a mesh in which nothing was measured is filled by memory. Where
cuts or links are restricted, an exotic fit can be missed; the solver finds it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from peerinfer.errors import NoPlacement
from peerinfer.placement.chains import SLACK, Chains, Order, chains, settled
from peerinfer.placement.memory_fit import fewest
from peerinfer.placement.orders import changes, rearranged, starts, widened
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from peerinfer.placement.ranking import best, plan_of
from peerinfer.placement.rule import by_rule
from peerinfer.placement.shortage import why_not
from peerinfer.placement.tables import SOLO, Tables, Whole, tabulate

NODES_MAX: Final = 64
"""Nodes looked at, those with most memory first: 64 stages would spend a second per token on hops alone."""
TURNS_MAX: Final = 3
"""Turns in which a chain is improved, about a millisecond each."""
WORK_MAX: Final = 15_000
"""Stages times cuts looked at in small changes of one chain: about a millisecond."""
KEPT: Final = 2
"""Chains that are improved."""


def place(problem: Problem) -> Plan:
    """A good plan for `problem`; where no search is needed the best one, by `rule.py`.

    Raises `NoPlacement` with a sentence that says what is short, what to try, and who was left out and why.
    """
    found = find(problem)
    plan = by_rule(problem, found) or found
    if plan is None:
        raise NoPlacement(why_not(problem))
    return plan


def find(problem: Problem) -> Plan | None:
    """A good plan by search alone; None if none was found."""
    plans: list[Plan] = []
    tables = tabulate(_largest(problem))
    if problem.min_nodes <= 1:
        solos = [node.node for number, node in enumerate(tables.nodes) if np.isfinite(tables.us[SOLO, number, -1])]
        plans += [plan for node in solos if (plan := plan_of(problem, [node], [problem.model.layers], "greedy"))]
    if len(tables.nodes) > 1 and len(tables.cuts) > 2:
        for order in _orders(tables):
            ends = settled(tables, order)
            plan = plan_of(problem, [tables.nodes[number].node for number in order], ends, "greedy") if ends else None
            plans += [plan] if plan else []
    return best(problem, plans)


def _largest(problem: Problem) -> Problem:
    """The problem with those nodes only that have most memory."""
    ranked = sorted(problem.nodes, key=lambda node: (-node.memory_bytes, node.node != problem.first, node.node))
    return replace(problem, nodes=tuple(ranked[:NODES_MAX]))


def _orders(tables: Tables) -> list[Order]:
    """The best orders found: equal ones all, since the ranking chooses among them."""
    exact, most = chains(tables, tables.cuts), tables.most()
    chosen = [exact.select(order) for order in starts(tables, most)]
    found = {order: value for value, order in chosen if order}
    for order in sorted(found, key=lambda one: (found[one], len(one), one))[:KEPT]:
        _improve(exact, tables, most, order, found)
    ranked = sorted(found, key=lambda one: (found[one], len(one), one))[:KEPT]
    grown = {_grown(exact, order, most, tables.problem.min_nodes) for order in ranked}
    grown = {_polished(exact, order, most, tables.problem.min_nodes) for order in grown if order}
    grown |= {asking for order in grown if (asking := _with_first(tables, order))}
    by_memory = fewest(tables, most, is_thorough=not grown)
    if by_memory:
        grown.add(by_memory if grown else _polished(exact, by_memory, most, tables.problem.min_nodes))
    return _least({order: exact.value(order) for order in grown})


def _least(found: dict[Order, float]) -> list[Order]:
    """The orders of least value, but for rounding, the shorter ones first."""
    limit = min(found.values(), default=0.0) * (1 + SLACK) + SLACK
    return sorted((order for order, value in found.items() if value <= limit), key=lambda one: (len(one), one))


def _improve(exact: Chains, tables: Tables, most: Whole, order: Order, found: dict[Order, float]) -> None:
    """Adds to `found` what `order` becomes in a few turns."""
    for _ in range(TURNS_MAX):
        moved = rearranged(tables, order, found[order])
        value, changed = exact.select(widened(tables, moved, most))
        if not changed or value >= found[order]:
            return
        found[changed] = value
        order = changed


def _grown(exact: Chains, order: Order, most: Whole, min_nodes: int) -> Order:
    """`order` with the best further nodes until it has `min_nodes`; empty if that cannot be."""
    while len(order) < min_nodes:
        wider = [
            (*order[:place], number, *order[place:])
            for number in range(most.shape[1])
            if number not in order and most[:, number].any()
            for place in range(len(order) + 1)
        ]
        value, order = min(((exact.value(one), one) for one in wider), default=(np.inf, ()))
        if not np.isfinite(value):
            return ()
    return order


def _polished(exact: Chains, order: Order, most: Whole, min_nodes: int) -> Order:
    """`order` after small changes that help, each tried in turn, until none does or enough were tried."""
    value, work = exact.value(order), WORK_MAX // exact.size
    is_better = True
    while is_better:
        is_better = False
        for changed in changes(order, most, min_nodes):
            work -= len(changed)
            if work < 0:
                return order
            new = exact.value(changed)
            if new < value or (new == value and len(changed) < len(order)):
                value, order, is_better = new, changed, True
                break
    return order


def _with_first(tables: Tables, order: Order) -> Order:
    """The same beginning with the node that asks; empty if that has no stage."""
    asking = [number for number in order if tables.nodes[number].node == tables.problem.first]
    return (*asking, *(number for number in order if number not in asking)) if asking else ()
