"""The machine of gossip by a virtual clock: what it says to whom and when, and what it believes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from peerinfer.gossip import table as gossip_table
from peerinfer.gossip.effects import SaveIncarnation, SnapshotLearned, SnapshotRefused
from peerinfer.gossip.envelope import seal
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.machine import (
    FANOUT,
    PUSH_EVERY_S,
    PUSH_GAP_S,
    REFUSED_GAP_S,
    RESEAL_EVERY_S,
)
from peerinfer.gossip.messages import GossipDigest, SnapshotSealed
from peerinfer.gossip.snapshot import Snapshot
from peerinfer.identity.roster import MEMBERS_MAX
from peerinfer.net.effects import SendTo
from tests.gossip.node import ME, MESH, B, Node, X, node_id, own_mark, payload_of, sealed, sends, sign_as

# What it says of itself


def test_the_first_tick_pushes_to_all_peers_and_learns_of_itself() -> None:
    node = Node()
    effects = node.gossip.tick(node.now)
    assert effects[0] == SnapshotLearned(ME, Snapshot("me", "1", 8, 4))
    assert [sent.node for sent in sends(effects, SnapshotSealed)] == [X, B]


def test_it_pushes_every_two_seconds_the_same_bytes_while_nothing_changes() -> None:
    node = Node(n=2)
    pushed = [(at, effect) for at, effect in node.listen(10.0) if sends([effect], SnapshotSealed)]
    times = [at for at, _ in pushed]
    assert [later - at for at, later in pairwise(times)] == [PUSH_EVERY_S] * 4
    assert len({effect for _, effect in pushed}) == 1


def test_an_unchanged_snapshot_is_sealed_afresh_now_and_then() -> None:
    node = Node(n=2)
    marks = [own_mark([effect]) for _, effect in node.listen(RESEAL_EVERY_S + 5) if sends([effect], SnapshotSealed)]
    assert set(marks) == {(1, 1), (1, 2)}


def test_a_change_is_pushed_soon_but_no_faster_than_its_gap() -> None:
    node = Node(n=2)
    node.gossip.tick(node.now)
    began = node.now
    pushed: list[float] = []
    while node.now < began + 1.0:
        node.now += 0.0625
        node.free += 1
        assert node.gossip.announce() == ()
        pushed += [node.now] * len(sends(node.gossip.tick(node.now), SnapshotSealed))
    assert len(pushed) == round(1.0 / PUSH_GAP_S)
    assert pushed[0] == pytest.approx(began + PUSH_GAP_S)


def test_a_push_by_hand_is_sent_at_once() -> None:
    node = Node(n=2)
    node.gossip.tick(node.now)
    node.free = 9
    effects = node.gossip.push(node.now)
    assert effects[0] == SnapshotLearned(ME, Snapshot("me", "1", 8, 9))
    assert own_mark(effects) == (1, 2)


def test_a_new_link_brings_the_own_snapshot_and_a_comparison() -> None:
    node = Node(n=2)
    assert [type(sent.message) for sent in sends(node.gossip.peer_up(X, node.now), object)] == [GossipDigest]
    node.gossip.tick(node.now)
    node.now += 1
    effects = node.gossip.peer_up(X, node.now)
    assert effects == (
        SendTo(X, SnapshotSealed(node.gossip.table.entries[ME].envelope.data)),
        SendTo(X, GossipDigest(node.gossip.table.digest)),
    )
    assert len(node.gossip.peer_up(X, node.now)) == 1  # a link that flaps


def test_a_peer_that_came_up_is_pushed_to_before_the_next_look() -> None:
    node = Node(n=2)
    node.peers = set()
    node.look()
    node.gossip.peer_up(X, node.now)
    assert [sent.node for sent in sends(node.gossip.push(node.now), SnapshotSealed)] == [X]


def test_alone_it_says_nothing() -> None:
    node = Node(n=1)
    assert sends([effect for _, effect in node.listen(5.0)], object) == []


def test_a_full_table_does_not_stop_its_own_pushes() -> None:
    node = Node(n=MEMBERS_MAX + 1)
    for number in range(1, MEMBERS_MAX + 1):
        node.receive(X, sealed(node_id(number), 1, 1))
    assert len(node.gossip.table.entries) == MEMBERS_MAX
    effects = node.gossip.push(node.now)
    assert [type(effect) for effect in effects] == [SendTo] * FANOUT


# What it believes


def test_what_is_new_is_learnt_once() -> None:
    node = Node()
    news = sealed(X, 1, 1)
    assert node.receive(B, news) == (SnapshotLearned(X, Snapshot(X[-4:], "1", 8, 4)),)
    assert node.receive(X, news) == ()
    assert node.receive(B, sealed(X, 1, 0)) == ()
    assert node.gossip.table.marks()[X] == (1, 1)


@pytest.mark.parametrize(
    "message",
    [
        SnapshotSealed(b"nonsense"),
        SnapshotSealed(sealed(X, 1, 1).envelope[:-1] + b"?"),
        sealed(node_id(77), 1, 1),
        sealed(X, 1, 1, payload=b"no snapshot"),
        SnapshotSealed(seal(MESH, X, 1, 1, payload=payload_of("x"), sign=lambda message: sign_as(B, message))),
    ],
)
def test_what_no_member_sealed_is_refused_and_reported_now_and_then(message: SnapshotSealed) -> None:
    node = Node()
    refused = node.receive(B, message)
    assert [type(effect) for effect in refused] == [SnapshotRefused]
    assert node.receive(B, message) == ()
    assert len(node.receive(X, message)) == 1
    node.now += REFUSED_GAP_S
    assert len(node.receive(B, message)) == 1
    assert node.gossip.table.marks() == {}


def test_a_removed_member_is_forgotten_and_believed_no_more_even_through_others() -> None:
    node = Node()
    node.receive(X, sealed(X, 1, 1))
    node.members.remove(X)
    node.look()
    assert node.gossip.table.entry(X) is None
    assert [type(effect) for effect in node.receive(B, sealed(X, 1, 2))] == [SnapshotRefused]


def test_a_forwarded_snapshot_is_no_life_and_a_direct_one_is() -> None:
    node = Node()
    node.receive(B, sealed(X, 1, 1))
    assert not node.gossip.was_heard(X)
    assert node.state(X) is Liveness.UNREACHABLE
    node.receive(X, sealed(X, 1, 1))  # the same bytes, now by itself
    assert node.state(X) is Liveness.ALIVE
    node.receive(B, sealed(B, 1, 1))
    assert node.gossip.direct() == {X, B}


def test_an_old_envelope_that_was_never_checked_is_no_life() -> None:
    node = Node()
    node.receive(B, sealed(X, 1, 5))
    node.receive(X, SnapshotSealed(sealed(X, 1, 4).envelope[:-1] + b"?"))
    assert not node.gossip.was_heard(X)


def test_messages_of_other_rooms_are_ignored() -> None:
    assert Node().receive(X, "something else") == ()


# Incarnations


def test_a_node_that_meets_itself_goes_above_and_saves_that_first() -> None:
    node = Node(n=2)
    node.gossip.tick(node.now)
    assert node.receive(X, sealed(ME, 41, 3)) == (SaveIncarnation(42),)
    assert node.gossip.incarnation == 42
    node.now += PUSH_GAP_S
    assert own_mark(node.gossip.tick(node.now)) == (42, 1)


def test_it_goes_above_the_same_incarnation_with_a_higher_sequence() -> None:
    node = Node(n=2, incarnation=3)
    assert node.receive(X, sealed(ME, 3, 1)) == (SaveIncarnation(4),)


def test_its_own_old_snapshot_and_a_forged_newer_one_change_nothing() -> None:
    node = Node(n=2, incarnation=3)
    node.gossip.tick(node.now)
    assert node.receive(X, sealed(ME, 3, 1)) == ()
    assert node.receive(X, sealed(ME, 2, 9)) == ()
    forged = SnapshotSealed(sealed(ME, 9, 1).envelope[:-1] + b"?")
    assert [type(effect) for effect in node.receive(X, forged)] == [SnapshotRefused]
    assert node.gossip.incarnation == 3


def test_a_peer_that_lost_its_count_is_shown_what_it_said() -> None:
    node = Node()
    newest = sealed(X, 41, 3)
    node.receive(X, newest)
    assert node.receive(X, sealed(X, 1, 1)) == (SendTo(X, newest),)
    assert node.receive(X, sealed(X, 1, 2)) == ()  # not again at once
    assert node.receive(B, sealed(X, 1, 1)) == ()  # and not who only passes it on
    assert node.receive(X, sealed(X, 41, 2)) == ()  # this is only late


def test_a_new_snapshot_that_finds_no_room_is_not_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    monkeypatch.setattr(gossip_table, "MEMBERS_MAX", 0)
    effects = node.gossip.receive(X, sealed(X, 1, 1), node.now)
    assert effects == ()
    assert node.gossip.table.entry(X) is None
