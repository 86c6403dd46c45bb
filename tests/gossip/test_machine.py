"""The machine of gossip by a virtual clock: what it says to whom and when, and what it believes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from peerinfer.gossip.comparison import marks_out
from peerinfer.gossip.effects import Effect, Effects, SaveIncarnation, SnapshotLearned, SnapshotRefused
from peerinfer.gossip.envelope import read_envelope, seal
from peerinfer.gossip.liveness import UNREACHABLE_AFTER_S, Liveness
from peerinfer.gossip.machine import (
    ANSWER_GAP_S,
    COMPARE_EVERY_S,
    FANOUT,
    FULL_MESH_MAX,
    PUSH_EVERY_S,
    PUSH_GAP_S,
    REFUSED_GAP_S,
    RESEAL_EVERY_S,
    Gossip,
)
from peerinfer.gossip.messages import AskHeard, Farewell, GossipDigest, GossipMarks, Heard, SnapshotSealed
from peerinfer.gossip.snapshot import Snapshot, encode_snapshot
from peerinfer.identity.roster import MEMBERS_MAX
from peerinfer.net.effects import SendTo

MESH = "aa" * 16
TICK_S = 0.25


def node_id(number: int) -> str:
    return f"{number:032x}"


ME, X, B = (node_id(number) for number in (0, 1, 2))


def sign_as(node: str, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=node.encode()).digest()


def payload_of(name: str, free: int = 4) -> bytes:
    return encode_snapshot(Snapshot(name, "1", 8, free))


def sealed(node: str, incarnation: int, sequence: int, payload: bytes | None = None) -> SnapshotSealed:
    body = payload_of(node[-4:]) if payload is None else payload
    data = seal(MESH, node, incarnation, sequence, payload=body, sign=lambda message: sign_as(node, message))
    return SnapshotSealed(data)


class Node:
    """One machine among `n` members, of whom all others are linked with it."""

    def __init__(self, n: int = 3, me: str = ME, incarnation: int = 1) -> None:
        self.now = 50.0
        self.me = me
        self.members = {node_id(number) for number in range(n)}
        self.peers = self.members - {me}
        self.free = 4
        self.gossip = Gossip(
            me,
            MESH,
            incarnation,
            sign=lambda message: sign_as(me, message),
            verify=self.check,
            compose=lambda: payload_of("me", self.free),
            chance=random.Random(1),
            now=self.now,
        )
        self.look()

    def check(self, node: str, message: bytes, signature: bytes) -> bool:
        return node in self.members and sign_as(node, message) == signature

    def look(self) -> None:
        assert self.gossip.see(self.peers, self.members, self.now) == ()

    def listen(self, seconds: float, hearing: Sequence[str] = ()) -> list[tuple[float, Effect]]:
        """Ticks for so long; gives the effects with their times."""
        done: list[tuple[float, Effect]] = []
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            for node in hearing:
                assert self.gossip.heard(node, 1, self.now) == ()
            done += [(self.now, effect) for effect in self.gossip.tick(self.now)]
        return done

    def receive(self, sender: str, message: object) -> Effects:
        return self.gossip.receive(sender, message, self.now)

    def state(self, node: str) -> Liveness:
        return self.gossip.liveness(node, self.now)


def sends(effects: Sequence[Effect], kind: type[object]) -> list[SendTo]:
    return [effect for effect in effects if isinstance(effect, SendTo) and isinstance(effect.message, kind)]


def own_mark(effects: Sequence[Effect]) -> tuple[int, int]:
    message = sends(effects, SnapshotSealed)[0].message
    assert isinstance(message, SnapshotSealed)
    return read_envelope(message.envelope).mark


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


# Larger meshes


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
