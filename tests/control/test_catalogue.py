"""What a model's name means in the mesh."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peerinfer.control.catalogue import find_in_mesh
from peerinfer.control.members import Member
from peerinfer.errors import BadRequest, UnknownModel
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldModel, Snapshot
from tests.control.cluster import MODEL, node_id


def member(number: int, *models: HeldModel, state: Liveness = Liveness.ALIVE) -> Member:
    snapshot = Snapshot(f"n{number}", "1", 1, 1, models=models)
    return Member(node_id(number), f"n{number}", state, snapshot)


SMOL = replace(MODEL, name="smollm2-135m", digest="a1" * 32)
SMOL_OTHER = replace(SMOL, digest="b2" * 32)
LARGE = replace(MODEL, name="smollm2-1.7b", digest="c3" * 32)


@pytest.mark.parametrize("name", ["tiny", " TINY ", "ti", "d" * 64, "d" * 8])
def test_a_name_its_beginning_or_a_digest_mean_a_model(name: str) -> None:
    assert find_in_mesh(name, (member(1, SMOL), member(2, MODEL))) == MODEL


def test_a_whole_name_wins_over_longer_ones() -> None:
    longer = replace(MODEL, name="tiny-chat", digest="e" * 64)
    assert find_in_mesh("tiny", (member(1, longer, MODEL),)) == MODEL


def test_a_beginning_of_several_names_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"may mean smollm2-1\.7b, smollm2-135m"):
        find_in_mesh("smol", (member(1, SMOL), member(2, LARGE)))


def test_of_two_files_with_one_name_the_one_that_most_have_is_meant() -> None:
    mesh = (member(1, SMOL), member(2, SMOL_OTHER), member(3, SMOL_OTHER))
    assert find_in_mesh("smollm2-135m", mesh) == SMOL_OTHER


@pytest.mark.parametrize("name", ["", "nothing", "ddd"])
def test_an_unknown_name_says_what_there_is(name: str) -> None:
    with pytest.raises(UnknownModel, match="available: tiny"):
        find_in_mesh(name, (member(1, MODEL),))


def test_nodes_that_are_away_hold_nothing() -> None:
    with pytest.raises(UnknownModel, match="available: none"):
        find_in_mesh("tiny", (member(1, MODEL, state=Liveness.UNREACHABLE), Member("x", "x", Liveness.ALIVE)))
