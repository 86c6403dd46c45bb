"""A naive exact planner, and what a plan takes: written from the definitions alone, sharing no code with the planners.

Every order of every subset of the nodes is walked, stage by stage. For each the best value that reaches a cut is kept,
which is all that matters to what follows. A walk is given up only when nothing it reached beats the best whole one:
times and shares never fall.

Time of a stage: what it takes besides its layers, its layers one by one into the first device that has room, and the
head on whichever device is best. Time of a token: all stages, `latency + bytes / rate` between neighbours, and the
latency of the way back. Memory: layers with their cache, the embedding on the first, the head on the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from peerinfer.placement.problem import NodeNumbers, Problem

Stage = tuple[str, int, int]
"""(node, first layer, end)."""


def stage_memory(problem: Problem, node: NodeNumbers, start: int, end: int) -> int:
    """Bytes of a stage on a node."""
    model, room = problem.model, problem.room
    total = node.stage_bytes + (end - start) * (model.layer_bytes + model.kv_bytes * room.context * room.slots)
    if start == 0:
        total += model.embedding_bytes
    if end == model.layers:
        total += model.head_bytes
    return total


def whole_memory(node: NodeNumbers) -> int:
    """Bytes of all its devices; 1 for none, so that it can be divided by."""
    return max(1, sum(device.memory_bytes for device in node.devices))


def stage_time(problem: Problem, node: NodeNumbers, layers: int, *, is_first: bool, is_last: bool) -> float:
    """Microseconds of a stage; inf if it does not fit."""
    model, room = problem.model, problem.room
    layer = model.layer_bytes + model.kv_bytes * room.context * room.slots
    if node.layers_max is not None and layers > node.layers_max:
        return math.inf
    if node.table_us and layers >= len(node.table_us):
        return math.inf
    best = math.inf
    for head_on in range(len(node.devices)) if is_last else [None]:
        free = [device.memory_bytes for device in node.devices]
        time = node.stage_us
        free[-1] -= node.stage_bytes
        if is_first:
            free[-1] -= model.embedding_bytes
        if head_on is not None:
            free[head_on] -= model.head_bytes
            time += node.devices[head_on].head_us
        if min(free) < 0:
            continue
        for _ in range(layers):
            place = next((number for number, space in enumerate(free) if space >= layer), None)
            if place is None:
                time = math.inf
                break
            free[place] -= layer
            time += 0.0 if node.table_us else node.devices[place].layer_us
        best = min(best, time + (node.table_us[layers] if node.table_us else 0.0))
    return best


def hop_time(problem: Problem, origin: str, target: str, size_bytes: int) -> float:
    """Microseconds of a message; inf without a link."""
    link = problem.default_link
    for told in problem.links:
        if (told.origin, told.target) == (origin, target):
            link = told
    if link is None:
        return math.inf
    return link.latency_us + (size_bytes / link.bytes_per_s * 1e6 if link.bytes_per_s else 0.0)


def value_of(problem: Problem, stages: Sequence[Stage]) -> float:
    """What the policy minimises, for stages in ring order; inf if they are not sound."""
    model = problem.model
    legal = {0, model.layers, *(range(model.layers) if model.legal_cuts is None else model.legal_cuts)}
    nodes = {node.node: node for node in problem.nodes}
    if len({name for name, _, _ in stages}) < len(stages) or len(stages) < problem.min_nodes:
        return math.inf
    if [0, *(end for _, _, end in stages)] != [*(start for _, start, _ in stages), model.layers]:
        return math.inf
    if any(start >= end or end not in legal for _, start, end in stages):
        return math.inf
    times = [
        stage_time(problem, nodes[name], end - start, is_first=start == 0, is_last=end == model.layers)
        for name, start, end in stages
    ]
    shares = [stage_memory(problem, nodes[name], start, end) / whole_memory(nodes[name]) for name, start, end in stages]
    hops = [hop_time(problem, before[0], after[0], model.activation_bytes) for before, after in pairwise(stages)]
    back = hop_time(problem, stages[-1][0], stages[0][0], 0) if len(stages) > 1 else 0.0
    if not math.isfinite(sum(times) + sum(hops) + back):
        return math.inf
    if problem.policy == "spread":
        return max(shares)
    return max(times + hops) if problem.policy == "throughput" else sum(times) + sum(hops) + back


def best_value(problem: Problem) -> float:
    """The least value of any plan; inf if there is none."""
    return _Walk(problem).best


class _Walk:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        layers = self.layers = problem.model.layers
        legal = problem.model.legal_cuts
        self.cuts = [0, *(one for one in range(1, layers) if legal is None or one in legal), layers]
        self.costs = {
            (node.node, is_first, is_last): [self._cost(node, size, is_first, is_last) for size in range(layers + 1)]
            for node in problem.nodes
            for is_first in (False, True)
            for is_last in (False, True)
        }
        names = [node.node for node in problem.nodes]
        self.hops = {(a, b): self._hop(a, b, problem.model.activation_bytes) for a in names for b in names if a != b}
        self.backs = {(a, b): self._back(a, b) for a in names for b in names if a != b}
        self.joins = (lambda a, b: a + b) if problem.policy == "latency" else max
        self.best = math.inf
        for name in names:
            if problem.min_nodes <= 1:
                self.best = min(self.best, self.costs[name, True, True][layers])
            start = {cut: self.costs[name, True, False][cut] for cut in self.cuts[1:-1]}
            self._walk([name], {cut: value for cut, value in start.items() if value < math.inf})

    def _cost(self, node: NodeNumbers, size: int, is_first: bool, is_last: bool) -> float:
        if size == 0:
            return math.inf
        time = stage_time(self.problem, node, size, is_first=is_first, is_last=is_last)
        if self.problem.policy != "spread" or time == math.inf:
            return time
        model, room = self.problem.model, self.problem.room
        total = node.stage_bytes + size * (model.layer_bytes + model.kv_bytes * room.context * room.slots)
        total += (model.embedding_bytes if is_first else 0) + (model.head_bytes if is_last else 0)
        return total / whole_memory(node)

    def _hop(self, a: str, b: str, size_bytes: int) -> float:
        time = hop_time(self.problem, a, b, size_bytes)
        return 0.0 if self.problem.policy == "spread" and time < math.inf else time

    def _back(self, a: str, b: str) -> float:
        time = hop_time(self.problem, a, b, 0)
        return 0.0 if self.problem.policy != "latency" and time < math.inf else time

    def _walk(self, order: list[str], reached: dict[int, float]) -> None:
        """`reached`: for the stages of `order`, none of them the last, the least value by where they end."""
        joins = self.joins
        if not reached or min(reached.values()) >= self.best:
            return
        for node in self.problem.nodes:
            name = node.node
            if name in order:
                continue
            hop = self.hops[order[-1], name]
            if hop == math.inf:
                continue
            arrived = {cut: joins(value, hop) for cut, value in reached.items()}
            if len(order) + 1 >= self.problem.min_nodes:
                back = self.backs[name, order[0]]
                closing = self.costs[name, False, True]
                for cut, value in arrived.items():
                    self.best = min(self.best, joins(joins(value, closing[self.layers - cut]), back))
            passing = self.costs[name, False, False]
            following: dict[int, float] = {}
            for end in self.cuts[1:-1]:
                values = [joins(value, passing[end - cut]) for cut, value in arrived.items() if cut < end]
                if values and min(values) < self.best:
                    following[end] = min(values)
            self._walk([*order, name], following)
