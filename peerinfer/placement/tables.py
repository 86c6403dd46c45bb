"""What every number of layers costs on every node, and every hop, as arrays: computed once for a problem.

The same numbers as `costs.stage_cost` gives one by one (a test holds them together), for the planners that need all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from peerinfer.placement.plan import bytes_per_layer
from peerinfer.placement.problem import ModelNumbers, NodeNumbers, Problem, Room

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

MIDDLE: Final = 0
FIRST: Final = 1
LAST: Final = 2
SOLO: Final = 3
"""First and last at once."""
UNLIMITED: Final = 1 << 40
"""Layers of a node without a limit, or of a model whose layers take nothing."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A problem in arrays. Nodes stand by their ids, so that every machine plans alike."""

    problem: Problem
    nodes: tuple[NodeNumbers, ...]
    cuts: Whole
    """(cuts,) layers at which a stage may begin or end."""
    us: Floats
    """(4, nodes, layers + 1) time of so many layers as a `MIDDLE`, `FIRST`, `LAST` or `SOLO` stage; inf if too many."""
    share: Floats
    """The same of the node's memory that it takes, 0 … 1."""
    hop: Floats
    """(nodes, nodes) time of a token's activations from one to another; inf where there is no link."""
    back: Floats
    """The same of the way back from the last to the first."""

    @property
    def layers(self) -> int:
        """Of the model."""
        return self.problem.model.layers

    def most(self) -> Whole:
        """(4, nodes) most layers that fit; 0 if not one does."""
        return np.isfinite(self.us).cumsum(axis=2).argmax(axis=2)


def tabulate(problem: Problem) -> Tables:
    """The tables of `problem`."""
    nodes = tuple(sorted(problem.nodes, key=lambda node: node.node))
    variants = [
        _variant(problem.model, problem.room, nodes, is_first=is_first, is_last=is_last)
        for is_first, is_last in ((False, False), (True, False), (False, True), (True, True))
    ]
    us = np.stack([one for one, _ in variants])
    share = np.stack([one for _, one in variants])
    hop, back = _links(problem, nodes)
    return Tables(problem, nodes, np.array(problem.model.cuts(), np.int64), us, share, hop, back)


def _variant(
    model: ModelNumbers, room: Room, nodes: tuple[NodeNumbers, ...], *, is_first: bool, is_last: bool
) -> tuple[Floats, Floats]:
    """(nodes, layers + 1) times and shares of memory of one kind of stage."""
    if not nodes:
        empty = np.zeros((0, model.layers + 1))
        return empty, empty
    slots = max(len(node.devices) for node in nodes)
    places = range(slots) if is_last else (-1,)
    options = [_filled(model, room, nodes, slots, is_first=is_first, head_on=place) for place in places]
    us = np.minimum.reduce(options)
    fixed = np.array([node.stage_bytes for node in nodes], np.float64)
    fixed += (model.embedding_bytes if is_first else 0) + (model.head_bytes if is_last else 0)
    taken = fixed[:, None] + np.arange(model.layers + 1) * float(bytes_per_layer(model, room))
    whole = np.array([max(1, node.memory_bytes) for node in nodes], np.float64)
    return us, np.where(np.isfinite(us), taken / whole[:, None], np.inf)


def _filled(
    model: ModelNumbers, room: Room, nodes: tuple[NodeNumbers, ...], slots: int, *, is_first: bool, head_on: int
) -> Floats:
    """Times with the head on the device in slot `head_on`; nodes with fewer devices leave the first slots empty."""
    each = bytes_per_layer(model, room)
    left = np.tile(np.arange(model.layers + 1, dtype=np.int64), (len(nodes), 1))
    us = np.tile(np.array([[node.stage_us] for node in nodes]), (1, model.layers + 1)).astype(np.float64)
    for slot in range(slots):
        holds, layer_us, head_us = _devices(
            model, nodes, slot - slots, each=each, is_first=is_first, has_head=slot == head_on
        )
        taken = np.minimum(left, np.maximum(holds, 0)[:, None])
        left -= taken
        us += taken * layer_us[:, None] + head_us[:, None]
        us[holds < 0] = np.inf
    for number, node in enumerate(nodes):
        if node.table_us:
            known = min(len(node.table_us), model.layers + 1)
            extra = us[number, 0]  # what stands there without layers: the stage itself, and the head
            us[number, :known] = np.array(node.table_us[:known]) + extra
            us[number, known:] = np.inf
        if node.layers_max is not None:
            us[number, node.layers_max + 1 :] = np.inf
    us[left > 0] = np.inf
    return us


def _devices(
    model: ModelNumbers,
    nodes: tuple[NodeNumbers, ...],
    slot: int,
    *,
    each: int,
    is_first: bool,
    has_head: bool,
) -> tuple[Whole, Floats, Floats]:
    """(nodes,) layers that a device of each node holds (-1: not even the rest), its times for one, and for the head.

    `slot` counts from the end: -1 is the host, the last device of each.
    """
    holds = np.zeros(len(nodes), np.int64)
    layer_us, head_us = np.zeros(len(nodes)), np.zeros(len(nodes))
    for number, node in enumerate(nodes):
        place = len(node.devices) + slot
        if place < 0:
            head_us[number] = np.inf if has_head else 0.0
            continue
        device = node.devices[place]
        is_host = place == len(node.devices) - 1
        fixed = (model.head_bytes if has_head else 0) + (node.stage_bytes if is_host else 0)
        fixed += model.embedding_bytes if is_first and is_host else 0
        rest = device.memory_bytes - fixed
        holds[number] = -1 if rest < 0 else rest // each if each else UNLIMITED
        layer_us[number] = device.layer_us
        head_us[number] = device.head_us if has_head else 0.0
    return holds, layer_us, head_us


def _links(problem: Problem, nodes: tuple[NodeNumbers, ...]) -> tuple[Floats, Floats]:
    place = {node.node: number for number, node in enumerate(nodes)}
    hop, back = np.full((len(nodes), len(nodes)), np.inf), np.full((len(nodes), len(nodes)), np.inf)
    if problem.default_link is not None:
        hop[:] = problem.default_link.hop_us(problem.model.activation_bytes)
        back[:] = problem.default_link.latency_us
    for link in problem.links:
        if link.origin in place and link.target in place:
            pair = place[link.origin], place[link.target]
            hop[pair] = link.hop_us(problem.model.activation_bytes)
            back[pair] = link.latency_us
    np.fill_diagonal(hop, np.inf)
    np.fill_diagonal(back, np.inf)
    return hop, back
