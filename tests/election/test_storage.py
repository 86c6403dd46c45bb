"""The promise on disk: there after a crash, never half, and not forgotten in silence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.election.storage import PromiseFile
from peerinfer.errors import HomeError

A = "a" * 32


def test_what_was_saved_is_there_in_the_next_life(tmp_path: Path) -> None:
    file = PromiseFile(tmp_path / "promise")
    assert file.value == NO_BALLOT
    file.save(Ballot(7, A))
    assert file.value == Ballot(7, A)
    assert PromiseFile(tmp_path / "promise").value == Ballot(7, A)
    assert [each.name for each in tmp_path.iterdir()] == ["promise"]


@pytest.mark.parametrize("content", ["", "7", "x y", "-1 a", "7 a b", f"{2**63} a"])
def test_a_damaged_promise_stops_the_node_with_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "promise").write_text(content)
    with pytest.raises(HomeError, match=r"damaged.*delete the file"):
        PromiseFile(tmp_path / "promise")


@pytest.mark.skipif(sys.platform == "win32", reason="folders are replaced otherwise there")
def test_a_promise_that_cannot_be_saved_is_an_error(tmp_path: Path) -> None:
    file = PromiseFile(tmp_path / "promise")
    (tmp_path / "promise").mkdir()
    with pytest.raises(HomeError, match="cannot be written"):
        file.save(Ballot(7, A))
    assert file.value == NO_BALLOT
