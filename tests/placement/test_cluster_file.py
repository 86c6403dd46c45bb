"""Described meshes: what the numbers of a file come to, and that every fault is one sentence with its path."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import BadRequest, NoPlacement
from peerinfer.placement.cluster_file import FILE_MAX_BYTES, parse_cluster, read_cluster
from peerinfer.placement.costs import predict
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import PlacedStage
from peerinfer.placement.problem import Problem

FILE: dict[str, Any] = {
    "model": {
        "layers": 10,
        "layer_bytes": 1000,
        "embedding_bytes": 300,
        "head_bytes": 500,
        "kv_bytes_per_token_per_layer": 2,
        "activation_bytes_per_token": 100,
        "legal_cuts": None,
    },
    "context": 50,
    "nodes": [
        {"name": "desk", "memory_bytes": 20_000, "decode_us_per_layer": 100.0, "prefill_us_per_token_per_layer": 2},
        {"name": "lap", "memory_bytes": 9_000, "decode_ms_by_layers": {"1": 0.3, "2": 0.5, "5": 1.4}},
        {
            "name": "mini",
            "memory_bytes": 8e3,
            "bandwidth_bytes_per_s": 1e7,
            "efficiency": 0.5,
            "overhead_us_per_layer": 40,
        },
    ],
    "links": [{"a": "desk", "b": "lap", "latency_us": 250, "bandwidth_bytes_per_s": 1e6}],
    "default_link": {"latency_us": 1000, "bandwidth_bytes_per_s": 1e8},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """`FILE` with another value at `nodes.1.name`; `...` removes it."""
    file = copy.deepcopy(FILE)
    steps: list[Any] = [int(step) if step.isdigit() else step for step in path.split(".")]
    *way, last = steps
    at: Any = file
    for step in way:
        at = at[step]
    spot: Any = last
    if value is ...:
        del at[spot]
    elif isinstance(at, list) and last == len(at):
        at.append(value)
    else:
        at[spot] = value
    return file


def read(file: dict[str, Any]) -> Problem:
    return parse_cluster(json.dumps(file).encode())[0]


def token_us(problem: Problem, *stages: tuple[str, int, int]) -> float:
    return predict(problem, [PlacedStage(node, start, end, 0) for node, start, end in stages]).token_us


def test_a_file_is_what_it_says() -> None:
    problem = read(FILE)
    assert (problem.model.layers, problem.model.kv_bytes, problem.model.activation_bytes) == (10, 2, 100)
    assert (problem.room.context, problem.room.slots, problem.policy, problem.min_nodes) == (50, 1, "latency", 1)
    assert [node.node for node in problem.nodes] == ["desk", "lap", "mini"]
    wires = problem.wires()
    assert wires["desk", "lap"].latency_us == wires["lap", "desk"].latency_us == 250
    assert wires["lap", "mini"].latency_us == 1000


def test_what_is_not_said_is_nothing_or_one() -> None:
    problem = read({"model": {"layers": 2, "layer_bytes": 5}, "nodes": [FILE["nodes"][0]]})
    assert (problem.room.context, problem.room.slots) == (0, 1)
    assert place(problem).predicted.token_us == 200


def test_the_head_takes_as_long_as_its_bytes_in_layers() -> None:
    assert token_us(read(FILE), ("desk", 0, 10)) == pytest.approx(10 * 100 + 0.5 * 100)


def test_a_table_is_interpolated_and_goes_on_by_its_last_slope() -> None:
    lap = read(FILE).node("lap")
    assert lap.table_us[:6] == pytest.approx((0, 300, 500, 800, 1100, 1400))
    assert lap.table_us[6:] == pytest.approx((1700, 2000, 2300, 2600, 2900))
    assert lap.devices[0].head_us == pytest.approx(0.5 * (1400 - 300) / 4)


def test_a_table_of_one_number_goes_straight_through_nothing() -> None:
    lap = read(changed("nodes.1.decode_ms_by_layers", {"4": 2.0})).node("lap")
    assert lap.table_us == pytest.approx([500 * layers for layers in range(11)])
    assert lap.devices[0].head_us == pytest.approx(250)


def test_a_bandwidth_gives_layers_an_overhead_and_the_head_none() -> None:
    mini = read(FILE).node("mini").devices[0]
    assert mini.layer_us == pytest.approx(1000 / 5 + 40)
    assert mini.head_us == pytest.approx(500 / 5)


def test_time_per_token_is_stages_hops_and_the_way_back() -> None:
    hop_us, back_us = 250 + 100 / 1e6 * 1e6, 250
    expected = 6 * 100 + (1100 + 0.5 * 275) + hop_us + back_us
    assert token_us(read(FILE), ("desk", 0, 6), ("lap", 6, 10)) == pytest.approx(expected)


def test_a_gpu_is_filled_before_the_host() -> None:
    gpu = {"memory_bytes": 4500, "decode_us_per_layer": 10}
    problem = read(changed("nodes.0.gpu", gpu))
    assert [device.layer_us for device in problem.node("desk").devices] == [10, 100]
    assert token_us(problem, ("desk", 0, 10)) == pytest.approx(4 * 10 + 6 * 100 + 50)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("model", ..., "model is missing."),
        ("model", [], "model must be a JSON object, but is a list of 0 items."),
        ("model.layers", ..., "model.layers is missing."),
        ("model.layers", 0, "model.layers must be a whole number of layers from 1 to 4096, but is 0."),
        ("model.layers", 2.5, "but is 2.5."),
        ("model.layers", True, "but is true."),
        ("model.layer_bytes", -1, "model.layer_bytes must be a whole number of bytes from 1 to"),
        ("model.legal_cuts", [3, 11], "model.legal_cuts[1] must be a whole number of layers from 0 to 10, but is 11."),
        ("model.legal_cuts", "all", "model.legal_cuts must be a list of at most"),
        ("model.layer_byte", 5, "model.layer_byte is not known; model takes layers, layer_bytes,"),
        ("nodes", [], "nodes is missing or empty"),
        ("nodes", {}, "nodes must be a list of at most 64 items, but is an object."),
        ("nodes", [3], "nodes[0] must be a JSON object, but is 3."),
        ("nodes.2.memory_bytes", "lots", "nodes[2].memory_bytes must be a whole number of bytes from 0 to"),
        ("nodes.2.memory_bytes", 10**400, "but is far beyond that."),
        ("nodes.1.name", "desk", "nodes[1].name is desk again"),
        ("nodes.1.name", "", "nodes[1].name must be a name of 1 to 64 characters"),
        ("nodes.1.name", "a\nb", "nodes[1].name must be a name"),
        ("nodes.0.decode_us_per_layer", ..., "nodes[0] needs one of decode_us_per_layer, decode_ms_by_layers,"),
        ("nodes.0.bandwidth_bytes_per_s", 1e9, "but has decode_us_per_layer and bandwidth_bytes_per_s."),
        ("nodes.0.decode_us_per_layer", 0, "nodes[0].decode_us_per_layer must be a number of microseconds from 0.001"),
        ("nodes.0.efficiency", 0.5, "nodes[0].efficiency goes with bandwidth_bytes_per_s only."),
        ("nodes.2.efficiency", 1.5, "nodes[2].efficiency must be a number of parts of one from 0.001 to 1, but is 1.5"),
        ("nodes.1.decode_ms_by_layers", {}, "nodes[1].decode_ms_by_layers must be an object of milliseconds"),
        ("nodes.1.decode_ms_by_layers", {"0": 1}, "nodes[1].decode_ms_by_layers has a key that must be a number"),
        ("nodes.1.decode_ms_by_layers", {"1": 1, "01": 2}, "nodes[1].decode_ms_by_layers tells 1 layers twice."),
        ("nodes.1.decode_ms_by_layers", {"2": "x"}, "nodes[1].decode_ms_by_layers.2 must be a number of milliseconds"),
        ("nodes.1.gpu", {"memory_bytes": 1, "decode_us_per_layer": 1}, "nodes[1].gpu cannot stand beside"),
        ("nodes.0.gpu", {"decode_us_per_layer": 1}, "nodes[0].gpu.memory_bytes is missing."),
        ("links.0.b", "attic", 'links[0].b must be the name of one of the nodes, but is "attic".'),
        ("links.0.b", "desk", "links[0] goes from desk to itself"),
        ("links.0.latency_us", -1, "links[0].latency_us must be a number of microseconds from 0 to 1e+09, but is -1."),
        ("links.0.bandwidth_bytes_per_s", 0, "links[0].bandwidth_bytes_per_s must be a number of bytes per second"),
        (
            "links.1",
            {"a": "lap", "b": "desk", "latency_us": 1, "bandwidth_bytes_per_s": 1e6},
            "links[1] contradicts an earlier link between lap and desk",
        ),
        ("default_link.latency", 3, "default_link.latency is not known; default_link takes latency_us, bandwidth"),
        ("context", 1 << 30, "context must be a whole number of tokens from 0 to"),
        ("slots", 0, "slots must be a whole number of sequences from 1 to 256, but is 0."),
        ("policy", "best", 'policy must be one of latency, throughput, spread, but is "best".'),
        ("policy", [], "policy must be one of latency, throughput, spread, but is a list of 0 items."),
        ("min_nodes", 65, "min_nodes must be a whole number of nodes from 1 to 64, but is 65."),
        ("node", [], "node is not known; the file takes model, nodes,"),
    ],
)
def test_a_fault_is_one_sentence_with_its_path(path: str, value: object, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(changed(path, value))
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 400


def test_several_nodes_need_links() -> None:
    file = changed("default_link", ...)
    assert ("desk", "mini") not in read(file).wires()
    del file["links"]
    with pytest.raises(BadRequest, match="links and default_link are both missing"):
        read(file)


def test_what_is_for_people_is_let_be() -> None:
    file = changed("x-bought", "2024")
    file["comment"] = {"any": ["thing"]}
    file["nodes"][0]["x-room"] = "study"
    assert len(read(file).nodes) == 3


def test_a_pair_may_be_told_twice_alike() -> None:
    file = changed("links.1", {"a": "lap", "b": "desk", "latency_us": 250, "bandwidth_bytes_per_s": 1e6})
    assert read(file) == read(FILE)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "The file is not valid JSON"),
        (b"\xff\xfe", "The file is not valid JSON"),
        (b"[1]", "The file must be a JSON object, but is a list of 1 items."),
        (b'{"context": NaN}', "NaN is not a JSON number"),
        (b'{"context": 1e999}', "model is missing"),
        (b'{"context": 1, "context": 2}', 'The key "context" stands twice'),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"context": ' + b"9" * 5000 + b"}", "The file is not valid JSON"),
        (b" " * (FILE_MAX_BYTES + 1), "The file is larger than 1 MiB"),
    ],
)
def test_what_is_no_described_mesh_is_a_sentence(raw: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_cluster(raw)
    assert sentence in str(caught.value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["desk", "lap"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    steps = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [at, *(path for key, inner in steps for path in paths(inner, (*at, key)))]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(paths(FILE)[1:]), JUNK, st.booleans())
def test_whatever_stands_somewhere_only_sentences_come_out(path: tuple[Any, ...], junk: object, drop: bool) -> None:
    file = copy.deepcopy(FILE)
    at: Any = file
    for step in path[:-1]:
        at = at[step]
    if drop:
        del at[path[-1]]
    else:
        at[path[-1]] = junk
    told, plan = "", None
    try:
        plan = place(read_cluster(file)[0])
    except (BadRequest, NoPlacement) as error:
        told = str(error)
    if plan is None:
        assert told.isprintable()
        return
    assert math.isfinite(plan.predicted.token_us)
    assert plan.predicted.token_us > 0


@settings(max_examples=150, deadline=None)
@given(JUNK)
def test_junk_is_no_described_mesh(junk: object) -> None:
    with pytest.raises(BadRequest):
        read_cluster(junk)
