"""What people read of a plan, line by line, and that its JSON is JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from peerinfer.placement.cluster_file import read_cluster
from peerinfer.placement.explain import Explanation, explain_none
from peerinfer.placement.explain_report import report
from peerinfer.placement.explain_text import plan_text
from peerinfer.placement.greedy import place
from peerinfer.placement.problem import Compute, NodeNumbers
from tests.placement.described import mesh, node, told

ONE_NODE = """\
desk holds it whole: 78.1 tokens/s.

NODE  LAYERS               MEMORY   TIME
desk  0-20 (8 on its GPU)  20.0 GB  12.8 ms

Predicted    78.1 tokens/s, first token of 512 after 0.59 s, policy latency
Bottleneck   the stage on desk: 100% of a token's time, 12.8 of 12.8 ms
Bound by     the memory of desk: its GPU holds 8 of the 20 layers; with more it would be 500 tokens/s
Found by     rule in 1 ms: nothing better is possible by these numbers

Left out:
  pi cannot hold one layer: 1.0 GB are needed, 500 MB may be used."""

SPLIT = """\
lap and desk share it, for no node holds it alone: 34.3 tokens/s.

NODE  LAYERS  MEMORY   TIME
lap   0-8     8.0 GB   16.0 ms
desk  8-20    12.0 GB  12.0 ms

Predicted    34.3 tokens/s, policy latency
Bottleneck   the stage on lap: 55% of a token's time, 16.0 of 29.2 ms
Bound by     the memory of desk is full: one more layer does not fit; with more it would be 50.0 tokens/s
Found by     greedy in 1 ms: a good plan, not proven the best

Else it could be:
  policy throughput: 71.4 tokens/s (desk 0-12, lap 12-19, old 19-20)
  policy spread: 12.8 tokens/s (lap 0-8, desk 8-14, old 14-20)
  without desk: 12.0 tokens/s (lap 0-14, old 14-20)
  without lap: 11.7 tokens/s (desk 0-12, old 12-20)

Left out:
  old would slow every token: 27.2 instead of 34.3 tokens/s with it."""

NO_PLAN = """\
The model needs 20.0 GB, but desk can give 12.0 GB and lap can give 5.0 GB: 3.0 GB are short.

Any of these would do:
  A smaller quantisation: a file of at most 83 % of this one's size.
  3.0 GB more memory on desk.
  One more node with 3.0 GB of free memory."""


def text(explained: Explanation) -> str:
    """As people read it; without the time that a planner took."""
    body = report(explained)
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    if body["solver"] is not None:
        body["solver"]["ms"] = 1.0
    return plan_text(body)


def test_one_node() -> None:
    gpu = {"memory_bytes": 8_000_000_000, "decode_us_per_layer": 100, "prefill_us_per_token_per_layer": 10}
    problem = mesh(node("desk", 30, 1000, gpu=gpu, prefill_us_per_token_per_layer=90), node("pi", 0.5, 9000))
    lines = text(told(problem)).splitlines()
    assert lines == ONE_NODE.splitlines()


def test_a_split() -> None:
    explained = told(mesh(node("desk", 12, 1000), node("lap", 14, 2000), node("old", 12, 9000)))
    assert text(explained).splitlines() == SPLIT.splitlines()


def test_no_plan() -> None:
    explained = told(mesh(node("desk", 12, 1000), node("lap", 5, 2000), model={"kv_bytes_per_token_per_layer": 0}))
    assert text(explained).splitlines() == NO_PLAN.splitlines()


def test_speeds_that_nobody_measured_are_not_made_up() -> None:
    problem = mesh(node("desk", 30, 1), node("lap", 30, 1))
    unknown = [NodeNumbers(one.node, one.name, (Compute(one.memory_bytes),)) for one in problem.nodes]
    body = report(told(replace(problem, nodes=tuple(unknown))), {"desk": "llama.cpp"})
    assert body["predicted"] == {"tokens_per_s": None, "ttft_ms": None, "bottleneck": None}
    assert body["stages"][0] == {
        "node": "desk",
        "name": "desk",
        "engine": "llama.cpp",
        "layers": [0, 20],
        "memory_bytes": 20_000_000_000,
        "ms": None,
    }
    assert body["summary"] == "desk holds it whole; how fast that is was not measured yet."
    assert "not measured yet" in plan_text(body)


def test_the_size_of_a_file_that_would_do_is_rounded_down() -> None:
    """57.7 % fits and 58 % does not, so 58 must not be told."""
    model = {"layers": 8, "layer_bytes": 1_000_000, "embedding_bytes": 500_000, "head_bytes": 3_000_000}
    nodes = [
        {"name": name, "memory_bytes": room, "decode_us_per_layer": 100} for name, room in (("x", 5e6), ("y", 3e6))
    ]
    problem, _ = read_cluster(
        {
            "model": {**model, "kv_bytes_per_token_per_layer": 100},
            "context": 1000,
            "nodes": nodes,
            "default_link": {"latency_us": 500, "bandwidth_bytes_per_s": 1e7},
        }
    )
    assert "at most 57 % of this one's size" in text(explain_none(problem, place))
