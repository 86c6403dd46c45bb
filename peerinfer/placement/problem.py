"""What a planner is given: a model in numbers, nodes with their devices and speeds, links, and what is asked for.

Times are in microseconds for one token of one stream, sizes in bytes. Everything here travels to the solver's process,
so it is plain: numbers, words, tuples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

POLICIES: Final = ("latency", "throughput", "spread")
"""Least time per token of one stream; most tokens per second with every stage busy; least share of any memory."""


@dataclass(frozen=True, slots=True)
class ModelNumbers:
    """What placement needs to know of a model. Sizes in bytes."""

    layers: int
    layer_bytes: int
    """Weights of one layer; of the heaviest where layers differ."""
    embedding_bytes: int
    head_bytes: int
    kv_bytes: int
    """KV cache of one token in one layer."""
    legal_cuts: tuple[int, ...] | None = None
    """Layers at which a stage may begin, besides 0; None = any; empty = the model runs whole."""
    activation_bytes: int = 0
    """Hidden state of one token, as it crosses a link."""

    def cuts(self) -> tuple[int, ...]:
        """All places where a stage may begin or end, in order: 0, the legal cuts, the number of layers."""
        inner = range(1, self.layers) if self.legal_cuts is None else sorted(set(self.legal_cuts))
        return (0, *(cut for cut in inner if 0 < cut < self.layers), self.layers)


@dataclass(frozen=True, slots=True)
class Room:
    """What a model's stages will serve: `context` tokens in each of `slots` sequences."""

    context: int
    slots: int


@dataclass(frozen=True, slots=True)
class Compute:
    """A device of a node: what it may hold, and what it takes for one token."""

    memory_bytes: int
    layer_us: float = 0.0
    """One layer in decode."""
    head_us: float = 0.0
    """Final norm and head."""
    prefill_layer_us: float = 0.0
    """One layer for each token of a prompt; 0 where that is not known."""
    is_guessed: bool = False
    """Whether its times are guesses by the name of the device."""


@dataclass(frozen=True, slots=True)
class NodeNumbers:
    """A node that may hold stages."""

    node: str
    name: str
    devices: tuple[Compute, ...]
    """Accelerators first, the fastest first, in the order in which they are filled; the host's memory, which also
    holds the embedding, comes last. A machine with one memory for all has one device."""
    stage_us: float = 0.0
    """For each step of a stage, besides its layers: pipe, child process, sampling."""
    stage_bytes: int = 0
    """Memory of a stage on the host besides weights and cache: process and compute buffers."""
    layers_max: int | None = None
    """Layers that its disk has room for; None sets no limit."""
    table_us: tuple[float, ...] = ()
    """Decode time of 0, 1, 2 … layers where it was measured so; it replaces `layer_us` of the only device."""

    @property
    def memory_bytes(self) -> int:
        """Of all its devices."""
        return sum(device.memory_bytes for device in self.devices)

    def is_guessed(self, layers: int, accelerated: int) -> bool:
        """Whether the time of a stage here is a guess; `accelerated` of its layers run on the first device."""
        used = (*self.devices[: min(1, accelerated)], *(self.devices[-1:] if layers > accelerated else ()))
        return any(device.is_guessed for device in used)


@dataclass(frozen=True, slots=True)
class LinkNumbers:
    """What a message takes from one node to another: `latency_us + bytes / bytes_per_s`."""

    origin: str
    target: str
    latency_us: float
    bytes_per_s: float = 0.0
    """0 where size does not matter, or was not measured."""

    def hop_us(self, size_bytes: int) -> float:
        """Time of a message of this size."""
        return self.latency_us + (size_bytes / self.bytes_per_s * 1e6 if self.bytes_per_s else 0.0)


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that may not hold a stage, or was not chosen, and why: `reason` completes "NAME …"."""

    node: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Which nodes shall hold which layers? Nodes and links stand in no order that matters."""

    model: ModelNumbers
    room: Room
    nodes: tuple[NodeNumbers, ...]
    links: tuple[LinkNumbers, ...] = ()
    """One entry for each direction."""
    default_link: LinkNumbers | None = None
    """For pairs that `links` does not name; None: those cannot be neighbours."""
    policy: str = "latency"
    min_nodes: int = 1
    first: str = ""
    """The node that asks: of equal rings the one that begins there is taken."""
    holders: tuple[str, ...] = ()
    """Nodes that have all weights already: preferred where it makes no difference otherwise."""
    excluded: tuple[Excluded, ...] = field(default=())

    def node(self, node: str) -> NodeNumbers:
        """The node with this id. Raises `KeyError`."""
        for each in self.nodes:
            if each.node == node:
                return each
        raise KeyError(node)

    def wires(self) -> dict[tuple[str, str], LinkNumbers]:
        """The link from each node to each other, where there is one."""
        told = {(link.origin, link.target): link for link in self.links}
        pairs = ((a.node, b.node) for a in self.nodes for b in self.nodes if a is not b)
        found = ((pair, told.get(pair, self.default_link)) for pair in pairs)
        return {pair: link for pair, link in found if link is not None}
