"""What one table lacks of another: exactly what is newer there, in bounded portions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.gossip.comparison import PORTION_MAX, PORTION_MAX_BYTES, behind, lacking, marks_in, marks_out
from peerinfer.gossip.envelope import COUNTER_MAX, Envelope
from peerinfer.gossip.messages import GossipMarks
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.gossip.snapshot_codec import encode_snapshot
from peerinfer.gossip.table import NEVER, Mark, SnapshotTable
from peerinfer.identity.roster import MEMBERS_MAX

PAYLOAD = encode_snapshot(Snapshot("a", "1", 8, 4))
TABLES = st.dictionaries(
    st.integers(0, 9).map(lambda number: f"{number:032x}"), st.tuples(st.integers(1, 3), st.integers(0, 3))
)


def table_of(marks: dict[str, Mark], n_bytes: int = 32) -> SnapshotTable:
    table = SnapshotTable()
    for node, mark in marks.items():
        data = f"{node} {mark[0]} {mark[1]} ".encode().ljust(n_bytes)
        table.offer(Envelope(node, *mark, PAYLOAD, b"", data))
    return table


def told(portion: list[bytes]) -> dict[str, Mark]:
    rows = [data.split() for data in portion]
    return {node.decode(): (int(incarnation), int(sequence)) for node, incarnation, sequence in rows}


@given(TABLES, TABLES, st.randoms(use_true_random=False))
def test_one_exchange_makes_two_small_tables_equal(
    mine: dict[str, Mark], theirs: dict[str, Mark], chance: random.Random
) -> None:
    one, two = table_of(mine), table_of(theirs)
    there = lacking(one, two.marks(), complete=True, chance=chance)
    here = lacking(two, behind(one, two.marks(), None), complete=False, chance=chance)
    newest = {node: max(mine.get(node, NEVER), theirs.get(node, NEVER)) for node in mine | theirs}
    assert theirs | told(there) == newest
    assert mine | told(here) == newest


def test_nobody_wants_snapshots_of_those_who_are_no_members() -> None:
    theirs: dict[str, Mark] = {"aa" * 16: (1, 1), "bb" * 16: (1, 1)}
    assert behind(SnapshotTable(), theirs, {"aa" * 16}) == {"aa" * 16: NEVER}


def test_a_portion_is_bounded_and_the_rest_follows() -> None:
    table = table_of({f"{number:032x}": (1, 1) for number in range(PORTION_MAX * 2)})
    theirs: dict[str, Mark] = {}
    for _ in range(2):
        portion = told(lacking(table, theirs, complete=True, chance=random.Random(1)))
        assert len(portion) == PORTION_MAX
        theirs |= portion
    assert theirs == table.marks()


def test_a_portion_is_bounded_in_bytes_and_never_empty() -> None:
    size = 60_000
    table = table_of({f"{number:032x}": (1, 1) for number in range(9)}, size)
    portion = lacking(table, {}, complete=True, chance=random.Random(1))
    assert len(portion) == PORTION_MAX_BYTES // size


def test_what_is_refused_starves_no_others() -> None:
    table = table_of({f"{number:032x}": (1, 1) for number in range(PORTION_MAX + 1)})
    last = f"{PORTION_MAX:032x}"
    assert any(last in told(lacking(table, {}, complete=True, chance=random.Random(seed))) for seed in range(3))


@given(TABLES)
def test_marks_come_back_from_the_wire(marks: dict[str, Mark]) -> None:
    assert marks_in(marks_out(marks, complete=True)) == marks


@pytest.mark.parametrize(
    "marks",
    [
        ((b"short", 1, 1),),
        ((b"n" * 17, 1, 1),),
        ((b"n" * 16, -2, 1),),
        ((b"n" * 16, 1, -2),),
        ((b"n" * 16, COUNTER_MAX + 1, 1),),
        ((b"n" * 16, 1, 1),) * (MEMBERS_MAX + 1),
    ],
)
def test_marks_that_break_a_limit_are_none(marks: tuple[tuple[bytes, int, int], ...]) -> None:
    assert marks_in(GossipMarks(marks)) is None
