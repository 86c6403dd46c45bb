"""The fewest nodes that hold a model by memory alone, the ones with most memory first.

Complete where any layer may be cut and every node reaches every other: then a first and a last node and enough others
between them are all that matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from peerinfer.placement.chains import Order, chains
from peerinfer.placement.tables import FIRST, LAST, MIDDLE, Tables, Whole

TRIES_MAX: Final = 200
"""Orders for which cuts are looked for, where cuts or links are restricted."""


def fewest(tables: Tables, most: Whole, *, is_thorough: bool) -> Order:
    """Nodes in ring order; under `spread` the most instead of the fewest. Empty if none was found.

    Every first and last node is tried only if `is_thorough`, else those with most memory.
    """
    exact, tries = chains(tables, tables.cuts), TRIES_MAX
    for order in _orders(tables, most, is_thorough=is_thorough):
        if np.isfinite(exact.value(order)):
            return order
        tries -= 1
        if tries <= 0:
            break
    return ()


def _orders(tables: Tables, most: Whole, *, is_thorough: bool) -> Iterator[Order]:
    """Orders that hold enough layers, for every number of nodes."""
    able = [number for number in range(most.shape[1]) if most[:, number].any()]
    asking = [number for number in able if tables.nodes[number].node == tables.problem.first]
    able.sort(key=lambda number: (-max(most[:3, number]), -tables.nodes[number].memory_bytes, number))
    limits = [int(most[MIDDLE, number]) for number in able]
    counts = range(max(2, tables.problem.min_nodes), min(len(able), len(tables.cuts) - 1) + 1)
    for count in reversed(counts) if tables.problem.policy == "spread" else counts:
        top = sum(sorted((int(max(most[:3, number])) for number in able), reverse=True)[:count])
        if top < tables.layers:
            continue
        chosen = able[:count]
        heads = [number for number in asking if number in chosen]
        plain = [*heads, *(number for number in chosen if number not in heads)]
        if _holds(plain, most, tables.layers):
            yield tuple(plain)
        if is_thorough:
            yield from _pairs(able, limits, most, count, tables.layers)


def _pairs(able: list[int], limits: list[int], most: Whole, count: int, layers: int) -> Iterator[Order]:
    """For every first and last node the others by what they hold."""
    ranked = sorted(range(len(able)), key=lambda place: (-limits[place], place))
    for head in able:
        for tail in able:
            if head == tail or not most[FIRST, head] or not most[LAST, tail]:
                continue
            between = [able[place] for place in ranked if able[place] not in (head, tail)][: count - 2]
            order = [head, *between, tail]
            if _holds(order, most, layers):
                yield tuple(order)


def _holds(order: list[int], most: Whole, layers: int) -> bool:
    held = [int(most[MIDDLE, number]) for number in order]
    held[0], held[-1] = int(most[FIRST, order[0]]), int(most[LAST, order[-1]])
    return min(held) > 0 and sum(held) >= layers
