"""Stages that a person fixed: what is sound is taken as it is, each fault has its own sentence."""

from __future__ import annotations

import pytest

from peerinfer.errors import BadRequest, NoPlacement, PeerinferError
from peerinfer.placement.fixed import Wanted, place_fixed
from peerinfer.placement.problem import Compute, Excluded, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

MODEL = ModelNumbers(
    layers=30, layer_bytes=100, embedding_bytes=50, head_bytes=50, kv_bytes=0, legal_cuts=tuple(range(2, 30, 2))
)
NODES = [
    NodeNumbers("a" * 32, "kitchen", (Compute(5000),)),
    NodeNumbers("b" * 32, "desk", (Compute(1200),)),
    NodeNumbers("c" * 32, "twin", (Compute(5000),)),
    NodeNumbers("d" * 32, "twin", (Compute(5000),)),
]
LINK = LinkNumbers("", "", 0.0)
EXCLUDED = [Excluded("e" * 32, "attic", "is unreachable")]


def placed(*wanted: Wanted) -> list[tuple[str, int, int, int]]:
    problem = Problem(MODEL, Room(1, 1), tuple(NODES), default_link=LINK, excluded=tuple(EXCLUDED))
    stages = place_fixed(problem, wanted).stages
    return [(stage.node[0], stage.first_layer, stage.last_layer, stage.memory_bytes) for stage in stages]


def test_names_and_ids_stand_for_nodes_in_the_order_of_layers() -> None:
    assert placed(("desk", 20, 30), ("a" * 32, 0, 20)) == [("a", 0, 20, 2050), ("b", 20, 30, 1050)]


@pytest.mark.parametrize(
    ("wanted", "kind", "sentence"),
    [
        ([("kitchen", 0, 10), ("desk", 12, 30)], BadRequest, "hole: nobody holds layers 10-12"),
        ([("kitchen", 2, 30)], BadRequest, "hole: nobody holds layers 0-2"),
        ([("kitchen", 0, 28)], BadRequest, "hole: nobody holds layers 28-30"),
        ([("kitchen", 0, 20), ("desk", 18, 30)], BadRequest, "overlap: layers 18-20 stand twice"),
        ([("kitchen", 0, 30), ("desk", 4, 6)], BadRequest, "overlap: layers 4-6 stand twice"),
        ([("kitchen", 0, 31)], BadRequest, "outside the model, which has layers 0-30"),
        ([("kitchen", 10, 10)], BadRequest, "outside the model"),
        ([("kitchen", -1, 30)], BadRequest, "outside the model"),
        ([("kitchen", 0, 15), ("desk", 15, 30)], BadRequest, "cannot be cut at layer 15. It can be cut at 2, 4, 6"),
        ([("cellar", 0, 30)], BadRequest, "no node cellar in this mesh. Nodes: attic, desk, kitchen, twin, twin"),
        ([("twin", 0, 30)], BadRequest, "2 nodes are called twin"),
        ([("kitchen", 0, 10), ("kitchen", 10, 30)], BadRequest, "kitchen stands twice"),
        ([("attic", 0, 30)], NoPlacement, "attic cannot hold the stage that was given to it: it is unreachable"),
        ([("kitchen", 0, 18), ("desk", 18, 30)], NoPlacement, "desk can give 1.2 kB: 50 B are short"),
    ],
)
def test_each_fault_has_its_sentence(wanted: list[Wanted], kind: type[PeerinferError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        placed(*wanted)


def test_a_model_that_must_run_whole_says_so() -> None:
    whole = ModelNumbers(layers=4, layer_bytes=1, embedding_bytes=0, head_bytes=0, kv_bytes=0, legal_cuts=())
    with pytest.raises(BadRequest, match="It runs whole on one node only"):
        place_fixed(Problem(whole, Room(1, 1), tuple(NODES), default_link=LINK), [("kitchen", 0, 2), ("desk", 2, 4)])
