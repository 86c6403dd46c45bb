"""Random placement problems by seed, for the planner's tests and its bench: small unlike clusters, and large ones."""

from __future__ import annotations

import random
from dataclasses import replace

from peerinfer.placement.problem import Compute, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

LAYER_BYTES = 1000
"""Weights of a layer in the small clusters: sizes are relative there."""


def small_cluster(seed: int, policy: str) -> Problem:
    """2 to 6 nodes and up to 24 layers: unlike memory, speeds and links.

    Legal cuts, heads, embeddings, two devices, measured tables, full disks and missing links. Some cannot be solved.
    """
    chance = random.Random(seed)
    layers = chance.randint(2, 24)
    model = ModelNumbers(
        layers=layers,
        layer_bytes=LAYER_BYTES,
        embedding_bytes=chance.choice([0, 0, 800, 4000]),
        head_bytes=chance.choice([0, 0, 900, 5000]),
        kv_bytes=chance.choice([0, 1, 3]),
        legal_cuts=_cuts(chance, layers),
        activation_bytes=chance.choice([0, 4096, 16384]),
    )
    room = Room(chance.choice([1, 64, 200]), chance.choice([1, 2]))
    count = chance.randint(2, 6)
    each = model.layer_bytes + model.kv_bytes * room.context * room.slots
    needed = layers * each + model.embedding_bytes + model.head_bytes
    wanted = needed * chance.uniform(1.0, 3.5)
    weights = [chance.uniform(0.2, 1.0) for _ in range(count)]
    memories = [int(wanted * weight / sum(weights)) for weight in weights]
    nodes = tuple(_node(chance, f"n{number}", memory, layers) for number, memory in enumerate(memories))
    return Problem(
        model,
        room,
        nodes,
        tuple(_links(chance, nodes)),
        chance.choice([None, None, LinkNumbers("", "", chance.uniform(50, 5000), chance.choice([0.0, 1e7]))]),
        policy=policy,
        min_nodes=chance.choice([1, 1, 1, 2, 3]),
        first=chance.choice(["", "n0", "n1"]),
    )


def _cuts(chance: random.Random, layers: int) -> tuple[int, ...] | None:
    kind = chance.randrange(4)
    if kind < 2:
        return None
    if kind == 2:
        return tuple(range(2, layers, 2))
    return tuple(sorted(chance.sample(range(1, layers), chance.randint(1, min(layers - 1, 6)))))


def _node(chance: random.Random, name: str, memory_bytes: int, layers: int) -> NodeNumbers:
    layer_us = 10 ** chance.uniform(1.5, 3.5)
    host = Compute(memory_bytes, layer_us, layer_us * chance.uniform(0, 8), layer_us / 10)
    node = NodeNumbers(
        name,
        name.upper(),
        (host,),
        stage_us=chance.choice([0.0, chance.uniform(10, 500)]),
        stage_bytes=chance.choice([0, 0, 700]),
        layers_max=chance.choice([None, None, None, None, chance.randint(1, layers)]),
    )
    kind = chance.randrange(10)
    if kind < 2:
        own = int(memory_bytes * chance.uniform(0.1, 0.7))
        fast = Compute(own, layer_us / chance.uniform(1.5, 20), layer_us * chance.uniform(0, 2), layer_us / 50)
        return replace(node, devices=(fast, replace(host, memory_bytes=memory_bytes - own)))
    if kind == 2:  # measured: neither a line nor convex
        times = [0.0]
        for _ in range(layers):
            times.append(times[-1] + layer_us * chance.uniform(0.2, 2.0))
        return replace(node, table_us=tuple(times))
    return node


def _links(chance: random.Random, nodes: tuple[NodeNumbers, ...]) -> list[LinkNumbers]:
    missing = chance.choice([0.0, 0.0, 0.2])
    links: list[LinkNumbers] = []
    for origin in nodes:
        for target in nodes:
            if origin is not target and chance.random() >= missing:
                latency_us, rate = 10 ** chance.uniform(1.5, 4), chance.choice([0.0, 1e6, 1e7, 1e8])
                links.append(LinkNumbers(origin.node, target.node, latency_us, rate))
    return links


def large_cluster(nodes: int, layers: int, seed: int, policy: str, links: str) -> Problem:
    """A model of `layers` layers that needs two thirds of the memory of unlike `nodes`: more than half take part.

    `links` is `each` (every pair has its own link, as in a mesh of unlike radios), `access` (a pair's link comes from
    how either is connected, cable or radio) or `one` (all alike).
    """
    chance = random.Random(seed)
    model = ModelNumbers(layers, 530_000_000, 1_000_000_000, 1_000_000_000, 4096, None, 16_384)
    room = Room(4096, 1)
    needed = layers * (model.layer_bytes + model.kv_bytes * room.context) + model.embedding_bytes + model.head_bytes
    weights = [chance.choice([8, 16, 16, 24, 32, 48, 64]) for _ in range(nodes)]
    made: list[NodeNumbers] = []
    for number, weight in enumerate(weights):
        layer_us = chance.uniform(800, 4000)
        device = Compute(int(needed * 1.5 * weight / sum(weights)), layer_us, layer_us * 3, layer_us / 100)
        made.append(NodeNumbers(f"n{number:02}", f"N{number}", (device,), stage_us=chance.uniform(50, 300)))
    access = [(chance.choice([100, 200, 1500, 3000]) + chance.uniform(0, 100), chance.choice([1e7, 1e8])) for _ in made]
    wires: list[LinkNumbers] = []
    for a, origin in enumerate(made):
        for b, target in enumerate(made):
            if a == b or links == "one":
                continue
            latency_us, rate = access[a][0] + access[b][0], min(access[a][1], access[b][1])
            if links == "each":
                latency_us, rate = chance.uniform(200, 5000), chance.choice([1e7, 1e8])
            wires.append(LinkNumbers(origin.node, target.node, latency_us, rate))
    return Problem(model, room, tuple(made), tuple(wires), LinkNumbers("", "", 500.0, 1e8), policy=policy)
