"""Greedy placement by free memory: few stages, and no node filled more than it must be.

One node that holds the whole model wins, since splitting never makes a single answer faster. Else the fewest stages
that fit are taken (under `spread` the most), on the nodes with most free memory. Given the nodes in ring order, the
cuts minimise the largest share of its free memory that any node gives: so layers come out in proportion to free
memory, with the head counted on the last stage and the embedding on the first. The share is found by bisection; for
each share tried, every stage takes as many layers as it allows, which is optimal for a fixed order because a stage
that reaches further never leaves more for those after it.

Where any layer may be cut, a placement is found if there is one. Where cuts are restricted, stages between the first
and the last stand in order of free memory only, so an exotic fit can be missed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import permutations
from typing import Final

from peerinfer.errors import NoPlacement
from peerinfer.placement.plan import NodeMemory, PlacedStage, bytes_per_layer, in_list, in_words, stage_bytes
from peerinfer.placement.problem import Excluded, ModelNumbers, Room

SHARES: Final = 1024
"""Steps of the share of its free memory that a node gives: whole numbers, so that every machine plans alike."""
NODES_MAX: Final = 64
"""Nodes looked at, those with most free memory first: 64 stages would spend a second per token on hops alone."""

Stages = tuple[PlacedStage, ...]


def place(
    model: ModelNumbers,
    room: Room,
    nodes: Sequence[NodeMemory],
    *,
    min_nodes: int = 1,
    policy: str = "latency",
    first: str = "",
    holders: Collection[str] = (),
    excluded: Sequence[Excluded] = (),
) -> Stages:
    """Stages in ring order on at least `min_nodes` nodes; node `first` begins the ring if it takes part.

    A node that has the model already (`holders`) is preferred where one node is enough.

    Raises `NoPlacement` with a sentence that says what is short, what to try, and who was left out and why.
    """
    ranked = sorted(nodes, key=lambda node: (-node.usable_bytes, node.node != first, node.node))[:NODES_MAX]
    most = min(len(ranked), len(model.cuts()) - 1)
    fewest = max(1, min_nodes)
    counts = range(fewest, most + 1)
    for count in reversed(counts) if policy == "spread" else counts:
        chosen = _solo(model, room, ranked, first, holders) if count == 1 else ranked[:count]
        stages = _split(model, room, chosen, first)
        if stages:
            return stages
    raise NoPlacement(_why_not(model, room, ranked, fewest, excluded))


def _solo(
    model: ModelNumbers, room: Room, ranked: list[NodeMemory], first: str, holders: Collection[str]
) -> list[NodeMemory]:
    """Of the nodes with enough room: one that has the model, the node that asks, the one with most room."""
    needed = stage_bytes(model, room, 0, model.layers)
    fitting = [node for node in ranked if node.usable_bytes >= needed]
    best = sorted(fitting, key=lambda node: (node.node not in holders, node.node != first))
    return (best or ranked)[:1]


def _split(model: ModelNumbers, room: Room, chosen: list[NodeMemory], first: str) -> Stages:
    """The best cuts for the first order of `chosen` in which the model fits at all; empty if there is none."""
    layer = max(1, bytes_per_layer(model, room))
    if sum(node.usable_bytes // layer for node in chosen) < model.layers:
        return ()
    for order in _orders(chosen, first):
        if _reach(model, layer, order, SHARES):
            return _balanced(model, room, layer, order)
    return ()


def _orders(chosen: list[NodeMemory], first: str) -> Iterator[list[NodeMemory]]:
    """The asking node and then the others by free memory; if that does not fit, every pair of first and last."""
    yield sorted(chosen, key=lambda node: node.node != first)  # stable: the others stay by free memory
    for head, tail in permutations(chosen, 2):
        yield [head, *(node for node in chosen if node not in (head, tail)), tail]


def _balanced(model: ModelNumbers, room: Room, layer: int, order: list[NodeMemory]) -> Stages:
    low, high = 1, SHARES
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _reach(model, layer, order, middle) else (middle + 1, high)
    ends = _reach(model, layer, order, high)
    starts = [0, *ends[:-1]]
    return tuple(
        PlacedStage(node.node, start, end, stage_bytes(model, room, start, end))
        for node, start, end in zip(order, starts, ends, strict=True)
    )


def _reach(model: ModelNumbers, layer: int, order: list[NodeMemory], share: int) -> list[int]:
    """Where each stage ends if each takes all that `share` / `SHARES` of its memory holds; empty if layers are left."""
    cuts = model.cuts()
    ends: list[int] = []
    at = 0
    for number, node in enumerate(order):
        last = number == len(order) - 1
        spent = (model.embedding_bytes if number == 0 else 0) + (model.head_bytes if last else 0)
        room_bytes = node.usable_bytes * share // SHARES - spent
        holds = cuts[at] + max(0, room_bytes) // layer
        keep_back = len(order) - number  # later stages need a block each
        until = min(bisect_right(cuts, holds) - 1, len(cuts) - keep_back)
        if until <= at:
            return []
        at = until
        ends.append(cuts[at])
    return ends if at == len(cuts) - 1 else []


def _why_not(
    model: ModelNumbers, room: Room, nodes: list[NodeMemory], min_nodes: int, excluded: Sequence[Excluded]
) -> str:
    needed = stage_bytes(model, room, 0, model.layers)
    free = sum(node.usable_bytes for node in nodes)
    if not nodes:
        reason = "No node can hold a part of this model."
        advice = "Put the same model file on a node that is up."
    elif len(model.cuts()) - 1 < min_nodes:
        reason = f"This model can be cut into at most {len(model.cuts()) - 1} stages, but {min_nodes} were asked for."
        advice = "Ask for fewer with --min-nodes."
    elif len(nodes) < min_nodes:
        reason = f"{min_nodes} nodes were asked for, but only {len(nodes)} can take part."
        advice = "Ask for fewer with --min-nodes, or bring up another node that has the model file."
    elif free < needed:
        reason = f"The model needs {in_words(needed)}, but {_offer(nodes)}: {in_words(needed - free)} are short."
        advice = _smaller(model, room)
    else:
        reason = f"The model needs {in_words(needed)}; {_offer(nodes)}, but no way to cut it fits them."
        advice = _smaller(model, room)
    left_out = f" Left out: {'; '.join(f'{one.name} {one.reason}' for one in excluded)}." if excluded else ""
    return f"{reason} {advice}{left_out}"


def _offer(nodes: list[NodeMemory]) -> str:
    offers = in_list([f"{node.name} can give {in_words(node.usable_bytes)}" for node in nodes[:8]])
    return offers if len(nodes) <= 8 else f"{offers}, and {len(nodes) - 8} more nodes less"


def _smaller(model: ModelNumbers, room: Room) -> str:
    cache = in_words(model.layers * model.kv_bytes * room.context * room.slots)
    return (
        f"Try a smaller --context or fewer --slots (the KV cache for {room.slots} × {room.context} tokens takes {cache}"
        " of it), a smaller quantisation, or one more node."
    )
