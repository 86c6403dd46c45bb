"""What is missing where there is no plan, and what would help: only what was computed to work. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peerinfer.placement.explain_asking import Asking
from peerinfer.placement.explain_words import name
from peerinfer.placement.plan import in_words, stage_bytes
from peerinfer.placement.problem import Problem
from peerinfer.placement.shortage import reason_and_advice, usable
from peerinfer.placement.variants import with_host_memory, with_new_node, with_weights

SMALLEST_WEIGHTS: Final = 60
"""Thousandths: two bits instead of 32. Nothing makes weights smaller than that."""
BITS: Final = (16, 8, 6, 5, 4, 3, 2)
"""Bits of a weight that quantised files have, by their names."""
ROOMIEST: Final = 3
"""Nodes whose memory is grown, to see how much is short."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """Somebody's decision that could be taken back: `text` says by what, and the problem is what it would be then."""

    text: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that would help."""

    option: str
    """`context`, `slots`, `weights`, `memory`, `node`, `min-nodes` or `waiver`."""
    value: int
    """Tokens, sequences, thousandths of the weights, bytes, bytes, nodes; 0 for a waiver."""
    text: str


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why there is no plan."""

    reason: str
    short_bytes: int
    """Least memory that would have to be added, to the node where least of it does; 0 where memory is not short."""
    needed_bytes: int
    available_bytes: int
    remedies: tuple[Remedy, ...]


def shortage(
    problem: Problem, asking: Asking, *, waivers: Sequence[Waiver] = (), bits: float | None = None
) -> Shortage:
    """What is short. `bits` of a weight name the quantisation that would do."""
    growth = _growth(problem, asking)
    needed = stage_bytes(problem.model, problem.room, 0, problem.model.layers)
    available = sum(usable(node) for node in problem.nodes)
    short = growth[1] if growth else max(0, needed - available)
    reason, _ = reason_and_advice(problem)
    return Shortage(reason, short, needed, available, tuple(_remedies(problem, asking, growth, waivers, bits)))


def quantisation_bits(quantisation: str) -> float | None:
    """Bits of a weight by the name of a quantisation: `Q4_K_M` has 4, `BF16` 16; None where the name does not tell."""
    found = re.search(r"(?:^|[^A-Z])(?:I?Q|BF|F|MXFP|TQ)(\d{1,2})", quantisation.upper())
    return float(found[1]) if found and 0 < int(found[1]) <= 64 else None


def _growth(problem: Problem, asking: Asking) -> tuple[str, int] | None:
    """(node, bytes): the least memory that must be added somewhere; None if that is not what is missing."""
    needed = stage_bytes(problem.model, problem.room, 0, problem.model.layers)
    most = needed + max((node.stage_bytes for node in problem.nodes), default=0)
    roomiest = sorted(problem.nodes, key=lambda node: -node.memory_bytes)[:ROOMIEST]
    grown: list[tuple[int, str]] = []
    for node in roomiest:

        def more(added: int, to: str = node.node) -> Problem:
            return with_host_memory(problem, to, added)

        least = asking.least(1, most, more)
        if least is not None:
            grown.append((least, node.node))
    return min(((node, least) for least, node in sorted(grown)), key=lambda one: one[1], default=None)


def _remedies(
    problem: Problem,
    asking: Asking,
    growth: tuple[str, int] | None,
    waivers: Sequence[Waiver],
    bits: float | None,
) -> Iterator[Remedy]:
    room = problem.room
    for waiver in waivers:
        if asking.plan(waiver.problem) is not None:
            yield Remedy("waiver", 0, waiver.text)
    count = _most(asking, problem.min_nodes, lambda value: replace(problem, min_nodes=value))
    if count:
        yield Remedy("min-nodes", count, f"Ask for {count} nodes: --min-nodes {count}.")
    if problem.model.kv_bytes:
        context = _most(asking, room.context, lambda value: replace(problem, room=replace(room, context=value)))
        if context:
            yield Remedy("context", context, f"A context of at most {context} tokens: --context {context}.")
        slots = _most(asking, room.slots, lambda value: replace(problem, room=replace(room, slots=value)))
        if slots:
            yield Remedy("slots", slots, f"At most {slots} requests at once: --slots {slots}.")
    weights = _most(asking, 1000, lambda value: with_weights(problem, value), SMALLEST_WEIGHTS)
    if weights:
        yield Remedy("weights", weights, _smaller_file(weights, bits))
    if growth is not None:
        node, added = growth
        yield Remedy("memory", added, f"{in_words(added)} more memory on {name(problem, node)}.")
    most = stage_bytes(problem.model, room, 0, problem.model.layers) + max(
        (node.stage_bytes for node in problem.nodes), default=0
    )
    new = asking.least(1, most, lambda value: with_new_node(problem, value))
    if new:
        yield Remedy("node", new, f"One more node with {in_words(new)} of free memory.")


def _most(asking: Asking, now: int, changed: Callable[[int], Problem], lowest: int = 1) -> int:
    """The largest value below `now` with which there is a plan; 0 if there is none."""
    less = asking.least(1, now - lowest, lambda by: changed(now - by))
    return now - less if less else 0


def _smaller_file(thousandths: int, bits: float | None) -> str:
    if bits is not None:
        fitting = [each for each in BITS if each < bits and each <= bits * thousandths / 1000]
        if fitting:
            return f"A smaller quantisation: a {fitting[0]}-bit file instead of this one with {bits:g} bits."
    return f"A smaller quantisation: a file of at most {thousandths // 10} % of this one's size."
