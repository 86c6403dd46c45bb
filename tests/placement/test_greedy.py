"""Greedy placement: sound whatever it is given, complete where any cut is legal (against a brute-force oracle)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import NoPlacement
from peerinfer.placement import greedy
from peerinfer.placement.plan import PlacedStage, stage_bytes
from peerinfer.placement.problem import Compute, Excluded, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

MODEL = ModelNumbers(layers=30, layer_bytes=100, embedding_bytes=0, head_bytes=0, kv_bytes=0)
ROOM = Room(context=1, slots=1)


def node(name: str, usable_bytes: int) -> NodeNumbers:
    return NodeNumbers(name, name.upper(), (Compute(usable_bytes),))


def place(model: ModelNumbers, room: Room, nodes: Sequence[NodeNumbers], **wishes: object) -> Sequence[PlacedStage]:
    """Where nothing but memory matters."""
    problem = Problem(model, room, tuple(nodes), default_link=LinkNumbers("", "", 0.0))
    return greedy.place(replace(problem, **wishes)).stages


def layout(stages: Sequence[PlacedStage]) -> list[tuple[str, int, int]]:
    return [(stage.node, stage.first_layer, stage.last_layer) for stage in stages]


def check(
    model: ModelNumbers, room: Room, nodes: Sequence[NodeNumbers], stages: Sequence[PlacedStage], min_nodes: int
) -> None:
    """A placement that is sound: contiguous, legal, not empty, one range per node, everything fits."""
    usable = {one.node: one.memory_bytes for one in nodes}
    assert [stage.first_layer for stage in stages] == [0, *(stage.last_layer for stage in stages[:-1])]
    assert stages[-1].last_layer == model.layers
    assert len({stage.node for stage in stages}) == len(stages) >= min_nodes
    for stage in stages:
        assert stage.first_layer < stage.last_layer
        assert {stage.first_layer, stage.last_layer} <= set(model.cuts())
        assert stage.memory_bytes == stage_bytes(model, room, stage.first_layer, stage.last_layer)
        assert stage.memory_bytes <= usable[stage.node]


def oracle(model: ModelNumbers, room: Room, nodes: Sequence[NodeNumbers], min_nodes: int) -> bool:
    """Whether any placement exists, by trying all."""

    def fits(order: Sequence[NodeNumbers], cuts: Sequence[int]) -> bool:
        sizes = [stage_bytes(model, room, a, b) for a, b in pairwise([0, *cuts, model.layers])]
        return all(size <= one.memory_bytes for size, one in zip(sizes, order, strict=True))

    return any(
        fits(order, cuts)
        for count in range(max(1, min_nodes), len(nodes) + 1)
        for order in permutations(nodes, count)
        for cuts in combinations(model.cuts()[1:-1], count - 1)
    )


models = st.builds(
    ModelNumbers,
    layers=st.integers(1, 6),
    layer_bytes=st.integers(1, 20),
    embedding_bytes=st.integers(0, 30),
    head_bytes=st.integers(0, 30),
    kv_bytes=st.integers(0, 2),
    legal_cuts=st.one_of(st.none(), st.sets(st.integers(1, 5)).map(tuple)),
)
rooms = st.builds(Room, context=st.integers(1, 3), slots=st.integers(1, 2))
meshes = st.lists(st.integers(0, 120), max_size=4).map(
    lambda sizes: [node(f"n{number}", size) for number, size in enumerate(sizes)]
)


@settings(max_examples=400, deadline=None)
@given(models, rooms, meshes, st.integers(0, 4), st.sampled_from(["latency", "throughput", "spread"]))
def test_a_placement_is_sound_and_found_if_there_is_one(
    model: ModelNumbers, room: Room, nodes: list[NodeNumbers], min_nodes: int, policy: str
) -> None:
    possible = oracle(model, room, nodes, min_nodes)
    try:
        stages = place(model, room, nodes, min_nodes=min_nodes, policy=policy, first="n1")
    except NoPlacement:
        assert not possible or model.legal_cuts is not None
        return
    assert possible
    check(model, room, nodes, stages, min_nodes)


def test_one_node_that_holds_all_wins() -> None:
    assert layout(place(MODEL, ROOM, [node("a", 3000), node("b", 9000)])) == [("b", 0, 30)]


def test_the_node_that_asks_wins_over_a_larger_one() -> None:
    assert layout(place(MODEL, ROOM, [node("a", 3000), node("b", 9000)], first="a")) == [("a", 0, 30)]


def test_the_fewest_nodes_that_fit_are_taken() -> None:
    nodes = [node("a", 1500), node("b", 2000), node("c", 1200)]
    assert {stage.node for stage in place(MODEL, ROOM, nodes)} == {"a", "b"}


def test_spread_takes_all() -> None:
    nodes = [node("a", 9000), node("b", 9000), node("c", 9000)]
    assert len(place(MODEL, ROOM, nodes, policy="spread")) == 3


def test_layers_follow_free_memory() -> None:
    nodes = [node("a", 2000), node("b", 4000), node("c", 6000)]
    stages = place(MODEL, ROOM, nodes, min_nodes=3)
    assert layout(stages) == [("c", 0, 15), ("b", 15, 25), ("a", 25, 30)]


def test_the_head_counts_on_the_last_stage_and_the_embedding_on_the_first() -> None:
    nodes = [node("a", 4000), node("b", 4000), node("c", 4000)]
    heavy_end = ModelNumbers(layers=30, layer_bytes=100, embedding_bytes=0, head_bytes=600, kv_bytes=0)
    assert [stage.last_layer - stage.first_layer for stage in place(heavy_end, ROOM, nodes, min_nodes=3)] == [12, 12, 6]
    heavy_start = ModelNumbers(layers=30, layer_bytes=100, embedding_bytes=600, head_bytes=0, kv_bytes=0)
    assert [stage.last_layer - stage.first_layer for stage in place(heavy_start, ROOM, nodes, min_nodes=3)] == [
        6,
        12,
        12,
    ]


def test_the_ring_begins_with_the_node_that_asks() -> None:
    nodes = [node("a", 4000), node("b", 9000), node("c", 9000)]
    assert [stage.node for stage in place(MODEL, ROOM, nodes, min_nodes=3, first="a")] == ["a", "b", "c"]


def test_context_and_slots_take_memory() -> None:
    model = ModelNumbers(layers=30, layer_bytes=100, embedding_bytes=0, head_bytes=0, kv_bytes=1)
    nodes = [node("a", 3500), node("b", 3500)]
    assert len(place(model, Room(8, 2), nodes)) == 1
    assert len(place(model, Room(16, 2), nodes)) == 2


def test_only_legal_cuts_are_cut() -> None:
    model = ModelNumbers(layers=30, layer_bytes=100, embedding_bytes=0, head_bytes=0, kv_bytes=0, legal_cuts=(4, 28))
    nodes = [node("a", 9000), node("b", 9000), node("c", 9000)]
    assert layout(place(model, ROOM, nodes, min_nodes=3)) == [("a", 0, 4), ("b", 4, 28), ("c", 28, 30)]


def test_a_model_that_must_run_whole_is_never_cut() -> None:
    model = ModelNumbers(layers=30, layer_bytes=100, embedding_bytes=0, head_bytes=0, kv_bytes=0, legal_cuts=())
    assert len(place(model, ROOM, [node("a", 3000)])) == 1
    with pytest.raises(NoPlacement, match="at most 1 stages, but 2 were asked for"):
        place(model, ROOM, [node("a", 9000), node("b", 9000)], min_nodes=2)


def test_large_meshes_are_planned_too() -> None:
    nodes = [node(f"n{number:02}", 130 + number) for number in range(40)]
    assert len(place(MODEL, ROOM, nodes, policy="spread")) == 30


@pytest.mark.parametrize(
    ("nodes", "min_nodes", "sentence"),
    [
        (
            [node("a", 1000), node("b", 500)],
            1,
            "needs 3.0 kB, but A can give 1.0 kB and B can give 500 B: 1.5 kB are short",
        ),
        ([node("a", 9000)], 2, "2 nodes were asked for, but only 1 can take part"),
        ([], 1, "No node can hold a part of this model"),
    ],
)
def test_the_refusal_says_what_is_short(nodes: list[NodeNumbers], min_nodes: int, sentence: str) -> None:
    with pytest.raises(NoPlacement, match=sentence):
        place(MODEL, ROOM, nodes, min_nodes=min_nodes)


def test_the_refusal_says_when_only_the_pieces_do_not_fit() -> None:
    model = ModelNumbers(layers=2, layer_bytes=100, embedding_bytes=0, head_bytes=0, kv_bytes=0)
    with pytest.raises(NoPlacement, match="no way to cut it fits them"):
        place(model, ROOM, [node("a", 150), node("b", 90)])


def test_the_refusal_names_who_was_left_out_and_why() -> None:
    excluded = [Excluded("c", "C", "is unreachable"), Excluded("d", "D", "does not have the file of tiny")]
    with pytest.raises(NoPlacement, match=r"Left out: C is unreachable; D does not have the file of tiny."):
        place(MODEL, ROOM, [node("a", 10)], excluded=tuple(excluded))
