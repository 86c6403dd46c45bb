"""Gossip among many: fan-out, comparison of tables, and who is here."""

from __future__ import annotations

from itertools import pairwise

import pytest

from peerinfer.gossip.comparison import marks_out
from peerinfer.gossip.effects import SaveIncarnation
from peerinfer.gossip.envelope import read_envelope
from peerinfer.gossip.liveness import UNREACHABLE_AFTER_S, Liveness
from peerinfer.gossip.machine import (
    ANSWER_GAP_S,
    COMPARE_EVERY_S,
    FANOUT,
    FULL_MESH_MAX,
)
from peerinfer.gossip.messages import AskHeard, Farewell, GossipDigest, GossipMarks, Heard, SnapshotSealed
from peerinfer.net.effects import SendTo
from tests.gossip.node import ME, TICK_S, B, Node, X, node_id, own_mark, sealed, sends


def test_up_to_32_nodes_all_are_told_and_nothing_is_passed_on() -> None:
    node = Node(n=FULL_MESH_MAX)
    assert len(sends(node.gossip.tick(node.now), SnapshotSealed)) == FULL_MESH_MAX - 1
    assert sends(node.receive(X, sealed(X, 1, 1)), SnapshotSealed) == []


def test_above_32_nodes_two_are_told_and_news_is_passed_on_once() -> None:
    node = Node(n=FULL_MESH_MAX + 1)
    told = sends(node.gossip.tick(node.now), SnapshotSealed)
    assert len({sent.node for sent in told}) == FANOUT
    news = sealed(X, 1, 1)
    for _ in range(20):
        news = sealed(X, 1, read_envelope(news.envelope).sequence + 1)
        passed = sends(node.receive(B, news), SnapshotSealed)
        assert len({sent.node for sent in passed} - {X, B}) == len(passed) == FANOUT
        assert all(sent.message == news for sent in passed)  # the very bytes
        assert node.receive(X, news) == ()


# Comparison


def test_once_a_second_a_random_peer_gets_the_digest() -> None:
    node = Node(n=6)
    asked = [(at, effect) for at, effect in node.listen(60.0) if sends([effect], GossipDigest)]
    times = [at for at, _ in asked]
    assert [later - at for at, later in pairwise(times)] == [COMPARE_EVERY_S] * (len(times) - 1)
    assert {effect.node for _, effect in asked if isinstance(effect, SendTo)} == node.peers


def test_equal_digests_need_no_answer_and_others_get_the_marks() -> None:
    node = Node()
    node.receive(B, sealed(X, 1, 5))
    assert node.receive(B, GossipDigest(node.gossip.table.digest)) == ()
    answer = node.receive(B, GossipDigest(b"other"))
    assert answer == (SendTo(B, marks_out({X: (1, 5)}, complete=True)),)


def test_marks_bring_what_the_other_lacks_and_what_is_wanted_in_turn() -> None:
    node = Node(n=4)
    third = node_id(3)
    news = sealed(X, 1, 5)
    node.receive(B, news)
    node.receive(B, sealed(third, 1, 1))
    told = marks_out({X: (1, 4), B: (2, 2), third: (1, 1), node_id(99): (1, 1)}, complete=True)
    assert node.receive(B, told) == (SendTo(B, news), SendTo(B, marks_out({B: (-1, -1)}, complete=False)))


def test_a_list_of_wants_brings_those_and_ends_the_exchange() -> None:
    node = Node()
    node.receive(B, sealed(B, 1, 1))
    news = sealed(X, 1, 5)
    node.receive(B, news)
    assert node.receive(B, marks_out({X: (1, 4)}, complete=False)) == (SendTo(B, news),)


def test_marks_over_a_limit_are_ignored() -> None:
    node = Node()
    node.receive(B, sealed(X, 1, 5))
    assert node.receive(B, GossipMarks(((b"short", 1, 1),))) == ()


@pytest.mark.parametrize("message", [GossipDigest(b"other"), GossipMarks(()), AskHeard((X,), 1)])
def test_a_peer_cannot_make_it_answer_without_bound(message: object) -> None:
    node = Node()
    node.receive(X, sealed(X, 1, 5))
    answers = 0
    for _ in range(1000):
        node.now += 0.01
        answers += len(node.receive(B, message))
    assert answers <= 10.0 / (0.1 if isinstance(message, AskHeard) else ANSWER_GAP_S) + 1
    assert len(node.receive(X, message)) == 1


def test_two_machines_that_compare_become_equal() -> None:
    one, two = Node(n=3, me=ME), Node(n=3, me=X)
    one.receive(B, sealed(B, 1, 5))
    one.gossip.push(one.now)
    two.gossip.push(two.now)
    wires = [(ME, X, message.message) for message in sends(one.gossip.peer_up(X, one.now), GossipDigest)]
    while wires:
        sender, to, message = wires.pop(0)
        for sent in sends((one if to == ME else two).receive(sender, message), object):
            wires.append((to, sent.node, sent.message))
    assert one.gossip.table.marks() == two.gossip.table.marks() == {ME: (1, 1), X: (1, 1), B: (1, 5)}


# Hearing (more in test_hearing.py)


def test_a_silent_member_is_asked_about_and_an_answer_keeps_it_alive() -> None:
    node = Node()
    node.gossip.heard(X, 1, node.now)
    for _ in range(40):
        for question in sends([effect for _, effect in node.listen(TICK_S, [B])], AskHeard):
            assert question.node == B
            assert isinstance(question.message, AskHeard)
            assert node.receive(B, Heard(question.message.number, ((X, 1, 100_000),))) == ()
        assert node.state(X) is Liveness.ALIVE
    assert node.gossip.direct() == {B}


def test_a_neighbour_s_question_is_answered() -> None:
    node = Node()
    node.gossip.heard(X, 3, node.now)
    assert node.receive(B, AskHeard((X,), 8)) == (SendTo(B, Heard(8, ((X, 3, 0),))),)


def test_a_farewell_is_told_to_all_and_then_it_is_silent_until_it_wakes_anew() -> None:
    node = Node()
    node.gossip.tick(node.now)
    assert node.gossip.farewell(node.now) == (SendTo(X, Farewell(1)), SendTo(B, Farewell(1)))
    assert node.listen(5.0) == []
    assert node.gossip.wake(node.now) == (SaveIncarnation(2),)
    node.now += TICK_S
    assert own_mark(node.gossip.tick(node.now)) == (2, 1)


def test_a_wake_without_a_farewell_keeps_the_incarnation_and_accuses_nobody() -> None:
    node = Node()
    node.gossip.tick(node.now)
    node.gossip.heard(X, 1, node.now)
    node.now += 20
    assert node.gossip.wake(node.now) == ()
    pushed = node.listen(TICK_S)
    assert own_mark([effect for _, effect in pushed]) == (1, 1)
    node.listen(UNREACHABLE_AFTER_S)
    assert node.state(X) is Liveness.ALIVE


def test_who_said_farewell_is_gone_until_it_says_something_newer_itself() -> None:
    node = Node()
    node.receive(X, sealed(X, 1, 1))
    node.receive(X, Farewell(1))
    assert node.state(X) is Liveness.GONE
    node.receive(X, sealed(X, 1, 2))
    node.gossip.heard(X, 1, node.now)
    node.receive(B, sealed(X, 2, 1))
    assert node.state(X) is Liveness.GONE
    node.receive(X, sealed(X, 2, 1))
    assert node.state(X) is Liveness.ALIVE
