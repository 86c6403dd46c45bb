"""Described meshes for tests: a few nodes in a line each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peerinfer.errors import NoPlacement
from peerinfer.placement.cluster_file import read_cluster
from peerinfer.placement.explain import Explanation, explain, explain_none
from peerinfer.placement.greedy import place
from peerinfer.placement.problem import Problem

GB = 10**9
LINK = {"latency_us": 500, "bandwidth_bytes_per_s": 1e8}


def node(name: str, memory_gb: float, layer_us: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "memory_bytes": int(memory_gb * GB), "decode_us_per_layer": layer_us, **more}


def mesh(*nodes: dict[str, Any], model: dict[str, Any] | None = None, **more: Any) -> Problem:
    """A model of 20 layers of 1 GB each on these nodes."""
    plain = {"layers": 20, "layer_bytes": GB, "activation_bytes_per_token": 16_384}
    file = {"model": {**plain, **(model or {})}, "nodes": list(nodes), "default_link": LINK, **more}
    return read_cluster(file)[0]


def told(problem: Problem, **more: Any) -> Explanation:
    """What is told of it; `more` goes to `explain_none`."""
    try:
        plan = place(problem)
    except NoPlacement:
        return explain_none(problem, place, **more)
    return explain(replace(problem), plan, place)


def layout(explained: Explanation) -> list[tuple[str, int, int]]:
    assert explained.plan is not None
    return [(stage.node, stage.first_layer, stage.last_layer) for stage in explained.plan.stages]


def reason(explained: Explanation, name: str) -> str:
    return next(one.reason for one in explained.left_out if one.name == name)
