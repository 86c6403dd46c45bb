"""Every cost of a problem in arrays: what each node takes for each number of layers, and each stage between two cuts.

The planners look costs up here instead of computing them: a cluster of 32 nodes and 126 layers has half a million
possible stages. All of it comes from `costs.stage_cost`, by a short cut where a node has one device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from peerinfer.placement.costs import stage_cost
from peerinfer.placement.plan import bytes_per_layer
from peerinfer.placement.problem import ModelNumbers, NodeNumbers, Problem, Room

Costs = npt.NDArray[np.float64]
MIDDLE, FIRST, LAST, WHOLE = 0, 1, 2, 3
"""Where a stage stands: bit 0 if it is the first, bit 1 if it is the last."""


@dataclass(frozen=True, slots=True)
class NodeTable:
    """One node: arrays of shape (4 places, layers + 1); infinite where it does not fit, or has no layers."""

    us: Costs
    share: Costs
    """Of the node's memory."""

    def capacity(self, place: int = MIDDLE) -> int:
        """Most layers it can run there."""
        fitting = np.flatnonzero(np.isfinite(self.us[place]))
        return int(fitting[-1]) if fitting.size else 0


def node_table(model: ModelNumbers, room: Room, node: NodeNumbers) -> NodeTable:
    """All costs of one node."""
    us = np.full((4, model.layers + 1), np.inf)
    share = np.full((4, model.layers + 1), np.inf)
    memory = max(1, node.memory_bytes)
    for place in range(4):
        if len(node.devices) == 1:
            _fill_simple(model, room, node, place, (us[place], share[place]))
            continue
        for layers in range(1, model.layers + 1):
            cost = stage_cost(model, room, node, layers, is_first=bool(place & 1), is_last=bool(place & 2))
            if cost is None:
                break
            us[place, layers], share[place, layers] = cost.us, cost.memory_bytes / memory
    return NodeTable(us, share)


def _fill_simple(model: ModelNumbers, room: Room, node: NodeNumbers, place: int, rows: tuple[Costs, Costs]) -> None:
    """`costs.stage_cost` for a node with one device, for all numbers of layers at once: times and shares."""
    us, share = rows
    device = node.devices[0]
    fixed = node.stage_bytes + (model.embedding_bytes if place & 1 else 0) + (model.head_bytes if place & 2 else 0)
    each = bytes_per_layer(model, room)
    most = model.layers if not each else max(0, (device.memory_bytes - fixed) // each)
    most = min(most, model.layers if node.layers_max is None else node.layers_max, model.layers)
    if fixed > device.memory_bytes or most < 1:
        return
    counts = np.arange(1, most + 1)
    layers_us = np.asarray(node.table_us)[1 : most + 1] if node.table_us else counts * device.layer_us
    us[1 : most + 1] = layers_us + node.stage_us + (device.head_us if place & 2 else 0.0)
    share[1 : most + 1] = (fixed + counts * each) / max(1, node.memory_bytes)


class Tables:
    """A problem in arrays. Nodes are numbered as in `problem.nodes`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.nodes = [node_table(problem.model, problem.room, node) for node in problem.nodes]
        self.cuts = np.asarray(problem.model.cuts())
        numbers = {node.node: number for number, node in enumerate(problem.nodes)}
        count = len(problem.nodes)
        self.hop_us = np.full((count, count), np.inf)
        """Of one token's hidden state, from node to node; infinite where there is no link."""
        self.back_us = np.full((count, count), np.inf)
        """Of a token id."""
        self._middles: dict[int, Costs] = {}
        self._shares: dict[int, Costs] = {}
        size = problem.model.activation_bytes
        for (origin, target), link in problem.wires().items():
            self.hop_us[numbers[origin], numbers[target]] = link.hop_us(size)
            self.back_us[numbers[origin], numbers[target]] = link.latency_us

    @cached_property
    def steps(self) -> npt.NDArray[np.int64]:
        """Layers between each two cuts, shape (cuts, cuts); 0 below and on the diagonal."""
        return np.maximum(self.cuts[None, :] - self.cuts[:, None], 0)

    def between(self, number: int, *, by_share: bool = False) -> Costs:
        """Cost of node `number` between each two cuts as a middle stage, shape (cuts, cuts)."""
        known = self._shares if by_share else self._middles
        found = known.get(number)
        if found is None:
            table = self.nodes[number].share if by_share else self.nodes[number].us
            found = known[number] = table[MIDDLE][self.steps]
        return found

    def ends(self, number: int, place: int, *, by_share: bool = False) -> Costs:
        """Cost of node `number` as a first stage up to each cut, or as a last one from each cut on."""
        table = self.nodes[number].share if by_share else self.nodes[number].us
        layers = self.cuts if place == FIRST else self.cuts[-1] - self.cuts
        return table[place][layers]
