"""Orders of nodes for the greedy planner: promising ones to begin with, and better ones by moving nodes about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Final

import numpy as np

from peerinfer.placement.chains import Order
from peerinfer.placement.tables import FIRST, LAST, MIDDLE, Floats, Tables, Whole

FEW: Final = 5
"""Nodes of which every order is tried: a home's usual mesh."""
STARTS_MAX: Final = 3
"""Nodes tried as the first of a chain, the fastest ones: a slow first stage is seldom worth it."""
FAR_US: Final = 1e15
"""Instead of infinity where differences are taken: thirty years."""
PASSES_MAX: Final = 4
"""Rounds in which every node of a chain is put where its links are best."""


def starts(tables: Tables, most: Whole) -> Iterator[Order]:
    """Orders of all nodes: for each start the others by speed, and by the nearest link; every order of a few nodes."""
    able = [number for number in range(len(tables.nodes)) if most[: LAST + 1, number].any()]
    if len(able) < 2:
        return
    if len(able) <= FEW:
        yield from permutations(able)
        return
    pace = _pace(tables, most)
    able.sort(key=lambda number: (pace[number], number))
    asking = [number for number in able if tables.nodes[number].node == tables.problem.first]
    is_uneven = len(np.unique(tables.hop)) > 2  # all links the same, and none from a node to itself
    heads = [number for number in able if most[FIRST, number]]
    for start in dict.fromkeys([*heads[:STARTS_MAX], *asking]):
        others = [number for number in able if number != start]
        yield (start, *others)
        chain = [start]
        while is_uneven and others:  # the fastest of those that are nearest
            hops = tables.hop[chain[-1], others]
            chain.append(others.pop(int(hops.argmin())))
        if len(chain) > 1:
            yield tuple(chain)


def _pace(tables: Tables, most: Whole) -> Floats:
    """(nodes,) time of a layer on a full node, under `spread` its share of the memory: less is better."""
    values = tables.share if tables.problem.policy == "spread" else tables.us
    full = np.maximum(most[MIDDLE], 1)
    return values[MIDDLE, np.arange(len(tables.nodes)), full] / full


def rearranged(tables: Tables, order: Order, value: float) -> Order:
    """The nodes of `order` with each put where the hops and the head cost least, one after the other."""
    hop, back = _finite(tables.hop), _finite(tables.back)
    if tables.problem.policy == "throughput":  # a hop hurts only if it is slower than the pace
        hop = np.where(hop > value, hop * len(order), 0.0)
        back = np.where(back < FAR_US, 0.0, FAR_US)
    head = _finite(tables.us[LAST, :, 1]) - _finite(tables.us[MIDDLE, :, 1])

    def length(chain: Sequence[int]) -> float:
        return float(hop[chain[:-1], chain[1:]].sum() + back[chain[-1], chain[0]] + head[chain[-1]])

    best, chain = length(order), list(order)
    for _ in range(PASSES_MAX):
        before = best
        for node in order:
            rest = [number for number in chain if number != node]
            to = _cheapest(hop, back, head, rest, node)
            moved = [*rest[:to], node, *rest[to:]]
            new = length(moved)
            if new < best - 1e-9:
                best, chain = new, moved
        if best >= before:
            break
    return tuple(chain)


def _cheapest(hop: Floats, back: Floats, head: Floats, chain: list[int], node: int) -> int:
    """Where `node` makes `chain` least longer."""
    if len(chain) < 2:
        return len(chain)
    inner = hop[chain[:-1], node] + hop[node, chain[1:]] - hop[chain[:-1], chain[1:]]
    front = hop[node, chain[0]] + back[chain[-1], node] - back[chain[-1], chain[0]]
    end = hop[chain[-1], node] + back[node, chain[0]] - back[chain[-1], chain[0]] + head[node] - head[chain[-1]]
    return int(np.array([front, *inner, end]).argmin())


def _finite(times: Floats) -> Floats:
    return np.where(np.isfinite(times), times, FAR_US)


def widened(tables: Tables, order: Order, most: Whole) -> Order:
    """`order` with all other nodes at the places where they are nearest, for `Chains.select` to take of them."""
    hop, back, none = _finite(tables.hop), _finite(tables.back), np.zeros(len(tables.nodes))
    chain = list(order)
    for number in range(len(tables.nodes)):
        if number not in order and most[MIDDLE, number]:
            place = max(1, _cheapest(hop, back, none, chain, number))
            chain.insert(place, number)
    return tuple(chain)


def changes(order: Order, most: Whole, min_nodes: int) -> Iterator[Order]:
    """Small changes: drop a node, exchange two, take one from outside for another, put one elsewhere, add one."""
    size = len(order)
    outside = [number for number in range(most.shape[1]) if number not in order and most[: LAST + 1, number].any()]
    if size > max(2, min_nodes):
        yield from ((*order[:at], *order[at + 1 :]) for at in range(size))
    for a in range(size):
        for b in range(a + 1, size):
            yield (*order[:a], order[b], *order[a + 1 : b], order[a], *order[b + 1 :])
    yield from ((*order[:at], number, *order[at + 1 :]) for number in outside for at in range(size))
    for at in range(size):
        rest = (*order[:at], *order[at + 1 :])
        yield from ((*rest[:to], order[at], *rest[to:]) for to in range(size) if abs(to - at) > 1)
    yield from ((*order[:at], number, *order[at:]) for number in outside for at in range(size + 1))
