"""The same problem with one thing changed: what an explanation asks a planner about. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from peerinfer.errors import BadRequest
from peerinfer.placement.problem import Compute, Excluded, LinkNumbers, NodeNumbers, Problem

PLENTY_BYTES: Final = 1 << 60
"""Memory that sets no limit."""
NEW_NODE: Final = "a new node"


def without(problem: Problem, names: Sequence[str]) -> Problem:
    """Leaves nodes out, by id or name. Raises `BadRequest` for one that is not there, or if nobody is left."""
    known = {name for node in problem.nodes for name in (node.node, node.name)}
    known |= {name for one in problem.excluded for name in (one.node, one.name)}
    for name in names:
        if name not in known:
            there = ", ".join(sorted(node.name for node in problem.nodes))
            raise BadRequest(f"There is no node {name} to leave out. Nodes: {there}.")
    gone = [node for node in problem.nodes if node.node in names or node.name in names]
    excluded = (*problem.excluded, *(Excluded(node.node, node.name, "was left out by --without") for node in gone))
    return replace(only(problem, {node.node for node in problem.nodes if node not in gone}), excluded=excluded)


def only(problem: Problem, nodes: Collection[str]) -> Problem:
    """The problem with these nodes alone, and their links."""
    return replace(
        problem,
        nodes=tuple(node for node in problem.nodes if node.node in nodes),
        links=tuple(link for link in problem.links if link.origin in nodes and link.target in nodes),
    )


def with_memory(problem: Problem, nodes: Collection[str], more_bytes: int) -> Problem:
    """These nodes have `more_bytes` more on every device."""
    grown = [
        replace(
            node,
            devices=tuple(replace(one, memory_bytes=one.memory_bytes + more_bytes) for one in node.devices),
        )
        if node.node in nodes
        else node
        for node in problem.nodes
    ]
    return replace(problem, nodes=tuple(grown))


def with_host_memory(problem: Problem, node: str, more_bytes: int) -> Problem:
    """One node has `more_bytes` more of its own memory, none more on its accelerators."""
    grown = [
        replace(each, devices=(*each.devices[:-1], _more(each.devices[-1], more_bytes))) if each.node == node else each
        for each in problem.nodes
    ]
    return replace(problem, nodes=tuple(grown))


def with_weights(problem: Problem, thousandths: int) -> Problem:
    """All weights take so many thousandths of what they take."""
    model = problem.model
    smaller = replace(
        model,
        layer_bytes=max(1, model.layer_bytes * thousandths // 1000),
        embedding_bytes=model.embedding_bytes * thousandths // 1000,
        head_bytes=model.head_bytes * thousandths // 1000,
    )
    return replace(problem, model=smaller)


def with_new_node(problem: Problem, memory_bytes: int) -> Problem:
    """One more node, as fast as the slowest, and linked to all as the slowest link does it."""
    slowest = max(problem.nodes, key=lambda node: node.devices[-1].layer_us, default=None)
    device = slowest.devices[-1] if slowest is not None else Compute(0)
    taken = {node.node for node in problem.nodes}
    name = next(
        each for each in (NEW_NODE, *(f"{NEW_NODE} {n}" for n in range(2, len(taken) + 3))) if each not in taken
    )
    new = NodeNumbers(
        name,
        name,
        (replace(device, memory_bytes=memory_bytes),),
        slowest.stage_us if slowest is not None else 0.0,
        slowest.stage_bytes if slowest is not None else 0,
        table_us=slowest.table_us if slowest is not None else (),
    )
    links = [*problem.links, *([problem.default_link] if problem.default_link else [])]
    link = max(links, key=lambda one: one.hop_us(problem.model.activation_bytes), default=LinkNumbers("", "", 1000.0))
    ends = [(name, node.node) for node in problem.nodes] + [(node.node, name) for node in problem.nodes]
    added = tuple(LinkNumbers(a, b, link.latency_us, link.bytes_per_s) for a, b in ends)
    return replace(problem, nodes=(*problem.nodes, new), links=(*problem.links, *added))


def _more(device: Compute, more_bytes: int) -> Compute:
    return replace(device, memory_bytes=device.memory_bytes + more_bytes)
