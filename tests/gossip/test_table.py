"""The table of snapshots: the newest of each member wins in any order, within bounds."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.errors import BadFrame
from peerinfer.gossip.envelope import Envelope
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.gossip.snapshot_codec import encode_snapshot
from peerinfer.gossip.table import MARKS_MAX, NEVER, SnapshotTable
from peerinfer.identity.roster import MEMBERS_MAX


def node_id(number: int) -> str:
    return f"{number:032x}"


def envelope(node: int, incarnation: int, sequence: int) -> Envelope:
    payload = encode_snapshot(Snapshot(f"n{node}", f"{incarnation}.{sequence}", 8, 4))
    return Envelope(
        node_id(node), incarnation, sequence, payload, b"s" * 64, b"%d %d %d" % (node, incarnation, sequence)
    )


MARKS = st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(0, 5))


@given(st.lists(MARKS, max_size=12).flatmap(lambda marks: st.permutations(marks * 2)))
def test_any_order_and_repetition_leaves_the_newest_of_each(deliveries: list[tuple[int, int, int]]) -> None:
    table = SnapshotTable()
    newest: dict[str, tuple[int, int]] = {}
    for node, *mark in deliveries:
        snapshot = table.offer(envelope(node, *mark))
        known = newest.get(node_id(node), NEVER)
        assert (snapshot is not None) == (tuple(mark) > known)
        newest[node_id(node)] = max(known, (mark[0], mark[1]))
    assert table.marks() == newest
    for node, mark in newest.items():
        entry = table.entry(node)
        assert entry is not None
        assert entry.snapshot.version == f"{mark[0]}.{mark[1]}"


@given(st.lists(MARKS, max_size=12).flatmap(lambda marks: st.tuples(st.just(marks), st.permutations(marks))))
def test_equal_tables_have_equal_digests_and_no_others(orders: tuple[list[tuple[int, int, int]], ...]) -> None:
    one, two = SnapshotTable(), SnapshotTable()
    for table, order in zip((one, two), orders, strict=True):
        for mark in order:
            table.offer(envelope(*mark))
    assert one.digest == two.digest
    two.offer(envelope(2, 9, 9))
    assert one.digest != two.digest


def test_the_digest_is_the_one_of_the_protocol() -> None:
    table = SnapshotTable()
    table.offer(envelope(2, 1, 7))
    table.offer(envelope(1, 3, 4))
    rows = [(1, 3, 4), (2, 1, 7)]
    raw = b"".join(node.to_bytes(16, "big") + i.to_bytes(8, "big") + s.to_bytes(8, "big") for node, i, s in rows)
    assert table.digest == hashlib.sha256(raw).digest()[:16]


def test_marks_outlive_entries() -> None:
    table = SnapshotTable()
    table.offer(envelope(1, 2, 3))
    before = table.digest
    table.keep_only([])
    assert table.digest != before
    assert table.entry(node_id(1)) is None
    assert table.seen(node_id(1)) == (2, 3)
    assert table.offer(envelope(1, 2, 3)) is None
    assert table.offer(envelope(1, 2, 4)) is not None


def test_a_payload_that_is_no_snapshot_leaves_no_mark() -> None:
    table = SnapshotTable()
    with pytest.raises(BadFrame):
        table.offer(Envelope(node_id(1), 9, 9, b"\xc1", b"", b""))
    assert table.seen(node_id(1)) == NEVER


def test_it_never_holds_more_than_a_roster_may() -> None:
    table = SnapshotTable()
    for node in range(MEMBERS_MAX + 3):
        table.offer(envelope(node, 1, 1))
    assert len(table.entries) == MEMBERS_MAX
    assert table.entry(node_id(MEMBERS_MAX)) is None
    assert table.offer(envelope(0, 1, 2)) is not None


def test_marks_of_former_members_are_bounded_too() -> None:
    table = SnapshotTable()
    table.offer(envelope(0, 1, 1))
    for node in range(1, MARKS_MAX + 3):
        table.keep_only([node_id(0)])
        table.offer(envelope(node, 1, 1))
    assert table.seen(node_id(0)) == (1, 1)
    assert table.seen(node_id(1)) == table.seen(node_id(3)) == NEVER
    assert table.seen(node_id(4)) == (1, 1)
