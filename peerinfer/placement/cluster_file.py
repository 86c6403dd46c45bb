"""A mesh described in a file, for "what if I bought …": bytes of JSON in, a problem for the planner out.

The file is an object with `model`, `nodes`, `links`, `default_link`, `context`, `slots`, `policy` and `min_nodes`; only
the first two must be there. A node's memory is what may be used of it: head-room is the live mesh's business. Nodes
are known by their names. `x-…` keys and `comment` are for people.

Of a node's speed one of three is told:

* `decode_us_per_layer`: one layer for one token; the head takes as long as its bytes in layers.
* `decode_ms_by_layers`: measured times by number of layers. Between two numbers it goes straight, below the first
  straight to zero, above the last on by the last slope. The head takes as long as its bytes in layers, each at what a
  layer more costs from the first number to the last (with one number only: on the mean).
* `bandwidth_bytes_per_s`, with `efficiency` (1) and `overhead_us_per_layer` (0): a layer takes its bytes over
  efficiency times bandwidth, and the overhead; the head its bytes alone.

`gpu` in a node is a device that is filled before the node's own memory, with a memory and a speed of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NoReturn

from peerinfer.errors import BadRequest
from peerinfer.placement.cluster_fields import Fields, number_of, refuse, whole_of
from peerinfer.placement.problem import POLICIES, Compute, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

FILE_MAX_BYTES: Final = 1 << 20
"""64 nodes with all their links and full tables take some 300 kB."""
NODES_MAX: Final = 64
"""As many stages as an instance may have."""
LINKS_MAX: Final = NODES_MAX * NODES_MAX
"""Each pair may be told from both ends."""
LAYERS_MAX: Final = 4096
"""More than any model has."""
BYTES_MAX: Final = 10**15
"""A petabyte."""
KV_BYTES_MAX: Final = 10**8
"""KV cache of one token in one layer; the heaviest of today have some 100 kB."""
CONTEXT_MAX: Final = 1 << 24
SLOTS_MAX: Final = 256
NAME_MAX: Final = 64
US_MIN, US_MAX = 0.001, 1e9
"""Microseconds for a layer: nothing takes no time, and a thousand seconds is no speed."""
SPEED_MAX: Final = 1e15
"""Bytes per second."""

SPEEDS: Final = ("decode_us_per_layer", "decode_ms_by_layers", "bandwidth_bytes_per_s")
"""The three ways to tell a speed."""
_SPEED_KEYS = (*SPEEDS, "efficiency", "overhead_us_per_layer", "prefill_us_per_token_per_layer")
_FILE_KEYS = ("model", "nodes", "links", "default_link", "context", "slots", "policy", "min_nodes")
_MODEL_KEYS = (
    *("layers", "layer_bytes", "embedding_bytes", "head_bytes", "kv_bytes_per_token_per_layer"),
    *("activation_bytes_per_token", "legal_cuts", "name", "bits_per_weight"),
)
_NODE_KEYS = ("name", "memory_bytes", *_SPEED_KEYS, "overhead_us_per_stage", "gpu")
_LINK_KEYS = ("latency_us", "bandwidth_bytes_per_s")


def parse_cluster(raw: bytes) -> tuple[Problem, float | None]:
    """The problem that a file describes, and the bits of one weight if it tells them. Raises `BadRequest`."""
    if len(raw) > FILE_MAX_BYTES:
        raise BadRequest(f"The file is larger than {FILE_MAX_BYTES >> 20} MiB: a mesh is described by far less.")
    try:
        value: object = json.loads(raw.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError:
        raise BadRequest("The file is nested too deeply.") from None
    except BadRequest:
        raise
    except ValueError as error:
        raise BadRequest(f"The file is not valid JSON: {error}.") from None
    return read_cluster(value)


def read_cluster(value: object) -> tuple[Problem, float | None]:
    """As `parse_cluster`, of what was JSON."""
    file = Fields(value, "", _FILE_KEYS)
    model_fields = Fields(file.raw("model"), "model", _MODEL_KEYS) if file.has("model") else _missing("model")
    model = _model(model_fields)
    bits = model_fields.number("bits_per_weight", "bits", 0.5, 64.0) if model_fields.has("bits_per_weight") else None
    rows = file.rows("nodes", NODES_MAX)
    if not rows:
        raise BadRequest("nodes is missing or empty; describe at least one node.")
    nodes = tuple(_node(Fields(row, f"nodes[{number}]", _NODE_KEYS), model) for number, row in enumerate(rows))
    _check_names(nodes)
    links = _links(file.rows("links", LINKS_MAX), {node.node for node in nodes})
    default = _default_link(file)
    if len(nodes) > 1 and not links and default is None:
        raise BadRequest("links and default_link are both missing; tell at least what a link between two nodes takes.")
    problem = Problem(
        model=model,
        room=Room(
            file.whole("context", "tokens", 0, CONTEXT_MAX, 0), file.whole("slots", "sequences", 1, SLOTS_MAX, 1)
        ),
        nodes=nodes,
        links=links,
        default_link=default,
        policy=file.word("policy", POLICIES, "latency"),
        min_nodes=file.whole("min_nodes", "nodes", 1, NODES_MAX, 1),
    )
    return problem, bits


def _missing(key: str) -> NoReturn:
    raise BadRequest(f"{key} is missing.")


def _no_constant(name: str) -> NoReturn:
    raise BadRequest(f"The file is not valid JSON: {name} is not a JSON number.")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys all stand once: of two equal ones nobody knows which was meant."""
    made: dict[str, object] = {}
    for key, value in pairs:
        if key in made:
            raise BadRequest(f"The key {json.dumps(key)[:NAME_MAX]} stands twice in one object of the file.")
        made[key] = value
    return made


def _model(fields: Fields) -> ModelNumbers:
    layers = fields.whole("layers", "layers", 1, LAYERS_MAX)
    cuts = fields.rows("legal_cuts", LAYERS_MAX + 1) if fields.has("legal_cuts") else None
    if fields.has("name"):
        fields.name("name", NAME_MAX)
    return ModelNumbers(
        layers=layers,
        layer_bytes=fields.whole("layer_bytes", "bytes", 1, BYTES_MAX),
        embedding_bytes=fields.whole("embedding_bytes", "bytes", 0, BYTES_MAX, 0),
        head_bytes=fields.whole("head_bytes", "bytes", 0, BYTES_MAX, 0),
        kv_bytes=fields.whole("kv_bytes_per_token_per_layer", "bytes", 0, KV_BYTES_MAX, 0),
        activation_bytes=fields.whole("activation_bytes_per_token", "bytes", 0, BYTES_MAX, 0),
        legal_cuts=None
        if cuts is None
        else tuple(
            whole_of(cut, f"{fields.at('legal_cuts')}[{number}]", "layers", 0, layers)
            for number, cut in enumerate(cuts)
        ),
    )


def _node(fields: Fields, model: ModelNumbers) -> NodeNumbers:
    name = fields.name("name", NAME_MAX)
    table = _table(fields, model.layers) if fields.has("decode_ms_by_layers") else ()
    host = _compute(fields, model)
    devices = (host,)
    if fields.has("gpu"):
        if table:
            raise BadRequest(
                f"{fields.at('gpu')} cannot stand beside decode_ms_by_layers: a table tells of one device only."
            )
        gpu = Fields(fields.raw("gpu"), fields.at("gpu"), ("memory_bytes", *_SPEED_KEYS))
        if gpu.has("decode_ms_by_layers"):
            raise BadRequest(f"{gpu.at('decode_ms_by_layers')} cannot be: a table tells of a node's only device.")
        devices = (_compute(gpu, model), host)
    stage_us = fields.number("overhead_us_per_stage", "microseconds", 0.0, US_MAX, 0.0)
    return NodeNumbers(name, name, devices, stage_us=stage_us, table_us=table)


def _compute(fields: Fields, model: ModelNumbers) -> Compute:
    memory = fields.whole("memory_bytes", "bytes", 0, BYTES_MAX)
    told = [key for key in SPEEDS if fields.has(key)]
    if len(told) != 1:
        raise BadRequest(
            f"{fields.path} needs one of {', '.join(SPEEDS)}, but has {' and '.join(told) if told else 'none'}."
        )
    for key in ("efficiency", "overhead_us_per_layer"):
        if fields.has(key) and told[0] != "bandwidth_bytes_per_s":
            raise BadRequest(f"{fields.at(key)} goes with bandwidth_bytes_per_s only.")
    prefill = (
        fields.number("prefill_us_per_token_per_layer", "microseconds", US_MIN, US_MAX)
        if fields.has("prefill_us_per_token_per_layer")
        else 0.0
    )
    layer_us, head_us = _speed(fields, told[0], model)
    return Compute(memory, layer_us, head_us, prefill)


def _speed(fields: Fields, told: str, model: ModelNumbers) -> tuple[float, float]:
    """Microseconds of one layer and of the head."""
    heads = model.head_bytes / model.layer_bytes
    if told == "decode_us_per_layer":
        layer_us = fields.number(told, "microseconds", US_MIN, US_MAX)
        return layer_us, layer_us * heads
    if told == "decode_ms_by_layers":
        layer_us = _marginal_us(_points(fields))
        return layer_us, layer_us * heads
    bytes_per_us = fields.number(told, "bytes per second", 1.0, SPEED_MAX) / 1e6
    bytes_per_us *= fields.number("efficiency", "parts of one", 0.001, 1.0, 1.0)
    overhead_us = fields.number("overhead_us_per_layer", "microseconds", 0.0, US_MAX, 0.0)
    return model.layer_bytes / bytes_per_us + overhead_us, model.head_bytes / bytes_per_us


def _points(fields: Fields) -> list[tuple[int, float]]:
    """(layers, microseconds) as measured, in order; (0, 0) stands before them."""
    path = fields.at("decode_ms_by_layers")
    table = fields.entries("decode_ms_by_layers", LAYERS_MAX, "milliseconds by number of layers")
    points: dict[int, float] = {0: 0.0}
    for word, value in table.items():
        if not (word.isascii() and word.isdigit() and len(word) <= 4 and 1 <= int(word) <= LAYERS_MAX):
            refuse(f"{path} has a key that", f"must be a number of layers from 1 to {LAYERS_MAX}", word)
        if int(word) in points:
            raise BadRequest(f"{path} tells {int(word)} layers twice.")
        points[int(word)] = number_of(value, f"{path}.{word}", "milliseconds", US_MIN / 1e3, US_MAX / 1e3) * 1e3
    return sorted(points.items())


def _marginal_us(points: Sequence[tuple[int, float]]) -> float:
    """What a layer more costs, from the first measured number to the last; never less than nothing."""
    first, last = points[1] if len(points) > 2 else points[0], points[-1]
    return max(US_MIN, (last[1] - first[1]) / (last[0] - first[0]))


def _table(fields: Fields, layers: int) -> tuple[float, ...]:
    """Microseconds of 0 … `layers` layers."""
    points = _points(fields)
    table = [0.0]
    for (left, low_us), (right, high_us) in pairwise(points):
        slope = (high_us - low_us) / (right - left)
        table += [low_us + slope * step for step in range(1, right - left + 1)]
    (left, low_us), (right, high_us) = points[-2:]
    slope = max(0.0, (high_us - low_us) / (right - left))
    table += [high_us + slope * step for step in range(1, layers - right + 1)]
    return tuple(table[: layers + 1])


def _check_names(nodes: Sequence[NodeNumbers]) -> None:
    seen: set[str] = set()
    for number, node in enumerate(nodes):
        if node.node in seen:
            raise BadRequest(f"nodes[{number}].name is {node.node} again; give each node a name of its own.")
        seen.add(node.node)


def _links(rows: Sequence[object], names: set[str]) -> tuple[LinkNumbers, ...]:
    """Both directions of every pair that is told."""
    found: dict[tuple[str, str], LinkNumbers] = {}
    for number, row in enumerate(rows):
        fields = Fields(row, f"links[{number}]", ("a", "b", *_LINK_KEYS))
        a, b = (_end(fields, key, names) for key in ("a", "b"))
        if a == b:
            raise BadRequest(f"links[{number}] goes from {a} to itself; a link joins two nodes.")
        there = _link(fields, a, b)
        if found.setdefault((a, b), there) != there:
            raise BadRequest(f"links[{number}] contradicts an earlier link between {a} and {b}; tell each pair once.")
        found[(b, a)] = _link(fields, b, a)
    return tuple(found.values())


def _end(fields: Fields, key: str, names: set[str]) -> str:
    name = fields.name(key, NAME_MAX)
    if name not in names:
        refuse(fields.at(key), "must be the name of one of the nodes", name)
    return name


def _link(fields: Fields, origin: str, target: str) -> LinkNumbers:
    latency_us = fields.number("latency_us", "microseconds", 0.0, US_MAX)
    return LinkNumbers(
        origin, target, latency_us, fields.number("bandwidth_bytes_per_s", "bytes per second", 1.0, SPEED_MAX)
    )


def _default_link(file: Fields) -> LinkNumbers | None:
    if not file.has("default_link"):
        return None
    return _link(Fields(file.raw("default_link"), "default_link", _LINK_KEYS), "", "")
