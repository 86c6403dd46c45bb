"""Explanations of described meshes: what is chosen and why, who is left out and why, what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import BadRequest
from peerinfer.placement.costs import fault
from peerinfer.placement.explain import explain, summary
from peerinfer.placement.explain_asking import SOLVES_MAX, Asking, fits
from peerinfer.placement.explain_shortage import Waiver, quantisation_bits
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Excluded, Problem
from peerinfer.placement.variants import with_host_memory, with_new_node, with_weights, without
from tests.placement.described import GB, LINK, layout, mesh, node, reason, told


def test_one_node_that_holds_the_model_is_taken_alone_and_said_to_be_fastest() -> None:
    problem = mesh(node("desk", 30, 1000), node("lap", 30, 1100))
    explained = told(problem)
    assert layout(explained) == [("desk", 0, 20)]
    assert explained.summary.startswith("desk holds it whole and is fastest alone: 50.0 tokens/s; over desk and lap")
    split = next(one for one in explained.alternatives if one.label == "over desk and lap")
    assert split.plan.predicted.tokens_per_s < 50
    assert f"{split.plan.predicted.tokens_per_s:.1f}" in explained.summary
    assert explained.binding is not None
    assert (explained.binding.constraint, explained.binding.node) == ("compute", "desk")


def test_a_weak_node_that_would_slow_the_chain_is_left_out_with_both_speeds() -> None:
    problem = mesh(node("desk", 12, 1000), node("lap", 12, 1000), node("old", 12, 20_000))
    explained = told(problem)
    assert {name for name, _, _ in layout(explained)} == {"desk", "lap"}
    slower = place(replace(problem, min_nodes=3)).predicted.tokens_per_s
    assert explained.plan is not None
    now = explained.plan.predicted.tokens_per_s
    assert reason(explained, "old") == f"would slow every token: {slower:.1f} instead of {now:.1f} tokens/s with it"


def test_nodes_stand_in_the_order_of_their_links() -> None:
    fast, slow = {"latency_us": 100, "bandwidth_bytes_per_s": 1e9}, {"latency_us": 50_000, "bandwidth_bytes_per_s": 1e6}
    links = [{"a": a, "b": b, **fast} for a, b in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"))]
    problem = mesh(*(node(name, 5.5, 1000) for name in "acbd"), links=links, default_link=slow)
    names = [name for name, _, _ in layout(told(problem))]
    neighbours = {frozenset(pair) for pair in zip(names, [*names[1:], names[0]], strict=True)}
    assert neighbours == {frozenset(pair) for pair in ("ab", "bc", "cd", "da")}


def test_a_heavy_head_stands_where_it_is_cheap() -> None:
    heavy = {"head_bytes": 6 * GB}
    slow = {"name": "slow", "memory_bytes": 18 * GB, "bandwidth_bytes_per_s": 3e11}
    lagging = {**slow, "name": "quick", "bandwidth_bytes_per_s": 1e13, "overhead_us_per_layer": 900}
    assert layout(told(mesh(slow, lagging, model=heavy))) == [("slow", 0, 8), ("quick", 8, 20)]
    plain = node("quick", 18, 1000)
    launching = {**slow, "bandwidth_bytes_per_s": 1e12, "overhead_us_per_layer": 3000}
    assert layout(told(mesh(launching, plain, model=heavy))) == [("quick", 0, 18), ("slow", 18, 20)]


def test_a_measured_table_decides_where_layers_go() -> None:
    table = {str(count): count * 0.4 if count <= 8 else 3.2 + (count - 8) * 9 for count in range(1, 21)}
    slowing = {"name": "hot", "memory_bytes": 30 * GB, "decode_ms_by_layers": table}
    assert layout(told(mesh(slowing, node("steady", 30, 1500)))) in (
        [("hot", 0, 8), ("steady", 8, 20)],
        [("steady", 0, 12), ("hot", 12, 20)],
    )


def test_memory_that_keeps_a_plan_from_being_better_is_named() -> None:
    explained = told(mesh(node("gpu", 8.5, 300), node("lap", 30, 3000)))
    assert sorted(layout(explained), key=lambda one: one[0])[0][0] == "gpu"
    assert explained.binding is not None
    assert (explained.binding.constraint, explained.binding.node) == ("memory", "gpu")
    assert "is full: one more layer does not fit" in explained.binding.text


def test_a_slow_link_is_the_bottleneck_and_binds() -> None:
    slow = {"latency_us": 200_000, "bandwidth_bytes_per_s": 1e6}
    explained = told(mesh(node("a", 12, 100), node("b", 12, 100), default_link=slow))
    assert explained.binding is not None
    assert explained.binding.constraint in ("memory", "link")
    wide = told(mesh(node("a", 12, 100), node("b", 12, 100), default_link=slow, policy="throughput"))
    assert wide.binding is not None
    assert "the way from" in wide.binding.text or wide.binding.constraint == "memory"


def test_more_nodes_than_are_good_bind_by_their_number() -> None:
    explained = told(mesh(node("desk", 30, 1000), node("lap", 30, 1100), min_nodes=2))
    assert len(layout(explained)) == 2
    assert explained.binding is not None
    assert explained.binding.constraint == "min-nodes"
    assert "desk would do 50.0 tokens/s" in explained.binding.text
    assert explained.summary.endswith("desk alone would do 50.0 tokens/s.")
    assert "as at least 2 nodes were asked for" in explained.summary


def test_who_cannot_hold_a_layer_or_reach_anybody_is_told_so() -> None:
    links = [{"a": "desk", "b": "lap", **LINK}]
    problem = mesh(node("desk", 12, 1), node("lap", 12, 1), node("pi", 0.2, 9), node("island", 9, 1), links=links)
    explained = told(replace(problem, default_link=None))
    assert reason(explained, "pi") == "cannot hold one layer: 1.0 GB are needed, 200 MB may be used"
    assert reason(explained, "island") == "has no link to any other node"
    assert {one.constraint for one in explained.left_out} == {"memory", "link"}


def test_who_was_left_out_before_stays_so_with_the_reason() -> None:
    problem = replace(mesh(node("desk", 30, 1)), excluded=(Excluded("x", "attic", "is unreachable"),))
    assert reason(told(problem), "attic") == "is unreachable"
    left = without(mesh(node("desk", 30, 1), node("lap", 30, 2)), ["desk"])
    assert layout(told(left)) == [("lap", 0, 20)]
    assert reason(told(left), "desk") == "was left out by --without"
    with pytest.raises(BadRequest, match=r"There is no node attic to leave out. Nodes: desk, lap\."):
        without(mesh(node("desk", 30, 1), node("lap", 30, 2)), ["attic"])


def test_alternatives_differ_from_the_plan_and_each_other_and_are_sound() -> None:
    problem = mesh(node("a", 12, 900), node("b", 14, 1000), node("c", 9, 1100), node("d", 30, 4000))
    explained = told(problem)
    assert explained.plan is not None
    plans = [explained.plan, *(one.plan for one in explained.alternatives)]
    assert len({tuple((s.node, s.last_layer) for s in plan.stages) for plan in plans}) == len(plans) > 2
    assert all(fault(one.problem, one.plan.stages) == "" for one in explained.alternatives)
    assert "d alone" in [one.label for one in explained.alternatives]


def test_too_large_a_model_tells_what_is_missing_and_what_was_computed_to_help() -> None:
    kv = {"kv_bytes_per_token_per_layer": 100_000, "layer_bytes": GB // 2}
    problem = mesh(node("desk", 11, 1), node("lap", 8.5, 1), model=kv, context=4096, slots=2)
    short = told(problem, bits=8.0).shortage
    assert short is not None
    assert fits(with_host_memory(problem, "lap", short.short_bytes))
    assert place(with_host_memory(problem, "lap", short.short_bytes)).stages
    for name in ("desk", "lap"):
        assert not fits(with_host_memory(problem, name, short.short_bytes - 1))
    assert short.needed_bytes - short.available_bytes <= short.short_bytes
    found = {one.option: one.value for one in short.remedies}
    assert set(found) == {"context", "slots", "weights", "memory", "node"}
    for context, works in ((found["context"], True), (found["context"] + 1, False)):
        assert fits(replace(problem, room=replace(problem.room, context=context))) is works
    assert place(replace(problem, room=replace(problem.room, slots=found["slots"]))).stages
    assert place(with_weights(problem, found["weights"])).stages
    assert place(with_new_node(problem, found["node"])).stages
    assert any("a 2-bit file instead of this one with 8 bits" in one.text for one in short.remedies)


def test_what_owners_keep_back_is_named_only_if_it_would_do() -> None:
    large, small = node("attic", 30, 1), node("shed", 2, 1)
    problem = mesh(node("desk", 9, 1))
    waivers = [Waiver("Ask the attic.", mesh(node("desk", 9, 1), large)), Waiver("Ask the shed.", mesh(small))]
    short = told(problem, waivers=waivers).shortage
    assert short is not None
    assert [one.text for one in short.remedies if one.option == "waiver"] == ["Ask the attic."]


def test_too_many_nodes_asked_for_are_too_many() -> None:
    short = told(mesh(node("desk", 30, 1), node("lap", 30, 1), min_nodes=5)).shortage
    assert short is not None
    assert short.short_bytes == 0
    assert ("min-nodes", 2) in [(one.option, one.value) for one in short.remedies]


def test_a_planner_is_asked_a_bounded_number_of_times() -> None:
    asked: list[Problem] = []

    def counting(problem: Problem) -> Plan:
        asked.append(problem)
        return place(problem)

    many = mesh(*(node(f"n{number}", 3 + number % 3, 1000 + 7 * number) for number in range(16)))
    explained = explain(many, place(many), counting)
    assert len(asked) <= SOLVES_MAX
    assert explained.plan is not None
    assert {one.node for one in explained.left_out} | {stage.node for stage in explained.plan.stages} == {
        one.node for one in many.nodes
    }
    asking = Asking(counting)
    asked.clear()
    for _ in range(SOLVES_MAX + 5):
        asking.plan(many)
    assert len(asked) == SOLVES_MAX


def test_the_short_sentence_asks_only_if_it_may() -> None:
    problem = mesh(node("desk", 30, 1000), node("lap", 30, 1100))
    assert summary(problem, place(problem)) == "desk holds it whole: 50.0 tokens/s."
    assert "over desk and lap it would be" in summary(problem, place(problem), place)


@pytest.mark.parametrize(
    ("word", "bits"),
    [("Q4_K_M", 4), ("q8_0", 8), ("IQ2_XXS", 2), ("F16", 16), ("BF16", 16), ("MXFP4", 4), ("", None), ("mostly", None)],
)
def test_a_quantisation_tells_its_bits(word: str, bits: float | None) -> None:
    assert quantisation_bits(word) == bits


NODES = st.lists(st.tuples(st.floats(0.1, 25), st.floats(10, 50_000), st.booleans()), min_size=1, max_size=5)


@settings(max_examples=120, deadline=None)
@given(
    NODES,
    st.sampled_from(["latency", "throughput", "spread"]),
    st.integers(1, 3),
    st.none() | st.lists(st.integers(1, 19), max_size=5),
    st.integers(0, 200),
)
def test_whatever_the_mesh_everybody_is_accounted_for_and_every_remedy_works(
    nodes: list[tuple[float, float, bool]], policy: str, min_nodes: int, cuts: list[int] | None, kv_kb: int
) -> None:
    rows = [node("n" * 60 + str(number), memory, us) for number, (memory, us, _) in enumerate(nodes)]
    model = {"legal_cuts": cuts, "kv_bytes_per_token_per_layer": kv_kb * 1000, "head_bytes": GB // 3}
    problem = mesh(*rows, model=model, policy=policy, min_nodes=min_nodes, context=1024, slots=2)
    explained = told(problem)
    if explained.plan is not None:
        used = {stage.node for stage in explained.plan.stages}
        assert used | {one.node for one in explained.left_out} == {one.node for one in problem.nodes}
        assert len(explained.summary) <= 300
        assert explained.binding is not None
        return
    assert explained.shortage is not None
    changes = {
        "context": lambda value: replace(problem, room=replace(problem.room, context=value)),
        "slots": lambda value: replace(problem, room=replace(problem.room, slots=value)),
        "weights": lambda value: with_weights(problem, value),
        "min-nodes": lambda value: replace(problem, min_nodes=value),
        "node": lambda value: with_new_node(problem, value),
    }
    for one in explained.shortage.remedies:
        if one.option in changes:
            assert place(changes[one.option](one.value)).stages
