"""Problems that need no search: one node at most can take part, one is beyond any rival, or all are alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from peerinfer.placement.chains import SLACK, chains, settled
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import NodeNumbers, Problem
from peerinfer.placement.ranking import best, objective, plan_of
from peerinfer.placement.tables import SOLO, Tables, tabulate


def is_whole_only(problem: Problem) -> bool:
    """Whether no chain is possible, so that looking at each node alone is all there is to do."""
    tables = tabulate(problem)
    able = int(tables.most()[:SOLO].any(axis=0).sum())
    return able < 2 or len(tables.cuts) <= 2


def by_rule(problem: Problem, found: Plan | None) -> Plan | None:
    """The best plan where an argument is enough; None where it must be searched. `found` is the greedy plan."""
    if found is not None and (
        is_whole_only(problem) or objective(problem, found.stages, found.predicted) <= _bound_us(problem) * (1 + SLACK)
    ):
        return replace(found, solver="rule", is_optimal=True)
    return _all_alike(problem) if is_all_alike(problem) else None


def _bound_us(problem: Problem) -> float:
    """What no plan can be below: every layer on the fastest device, no hop. 0 where the policy is not `latency`."""
    if problem.policy != "latency":
        return 0.0
    layer_us = min(_layer_us(node) for node in problem.nodes)
    head_us = min(device.head_us for node in problem.nodes for device in node.devices)
    return min(node.stage_us for node in problem.nodes) + problem.model.layers * layer_us + head_us


def _layer_us(node: NodeNumbers) -> float:
    if node.table_us:
        return min((time / layers for layers, time in enumerate(node.table_us) if layers), default=0.0)
    return min(device.layer_us for device in node.devices)


def is_all_alike(problem: Problem) -> bool:
    """Whether the nodes differ in nothing but their names, and every pair has the same link."""
    first = problem.nodes[0] if problem.nodes else None
    if first is None or any(replace(node, node=first.node, name=first.name) != first for node in problem.nodes):
        return False
    wires = problem.wires()
    kinds = {(link.latency_us, link.bytes_per_s) for link in wires.values()}
    return len(kinds) <= 1 and len(wires) == len(problem.nodes) * (len(problem.nodes) - 1)


def _all_alike(problem: Problem) -> Plan | None:
    """Any order is as good as another: only how many take part is to be found, and the cuts, which is exact."""
    tables = tabulate(problem)
    ids = [node.node for node in tables.nodes]
    ranked = sorted(range(len(ids)), key=lambda number: (ids[number] not in problem.holders, ids[number]))
    if problem.first in ids:
        ranked.sort(key=lambda number: ids[number] != problem.first)
    plans: list[Plan] = []
    if problem.min_nodes <= 1:
        plans += [plan for node in ids if (plan := plan_of(problem, [node], [problem.model.layers], "rule"))]
    order = _best_count(tables, ranked)
    if order:
        chain = plan_of(problem, [ids[number] for number in order], settled(tables, order), "rule")
        plans += [chain] if chain else []
    found = best(problem, plans)
    return None if found is None else replace(found, is_optimal=True)


def _best_count(tables: Tables, ranked: list[int]) -> tuple[int, ...]:
    """The fewest of `ranked` whose chain is as good as any; empty if none holds the model."""
    exact = chains(tables, tables.cuts)
    counts = range(max(2, tables.problem.min_nodes), min(len(ranked), len(tables.cuts) - 1) + 1)
    values = [(exact.value(tuple(ranked[:count])), count) for count in counts]
    least = min((value for value, _ in values), default=np.inf)
    if not np.isfinite(least):
        return ()
    return tuple(ranked[: next(count for value, count in values if value <= least * (1 + SLACK) + SLACK)])
