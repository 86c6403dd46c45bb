"""Whom to dial when: the order of means, pauses, and bounds that hold whatever is learned."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from peerinfer.net.candidates import (
    CANDIDATES_MAX,
    DIALS_MAX,
    FIRST_RETRY_S,
    JITTER,
    POINTLESS_RETRY_S,
    RETRY_MAX_S,
    Candidates,
    Failure,
    Means,
)
from tests.net.mesh import node_id

OWN, ADA, BOB = node_id(1), node_id(2), node_id(3)


def fresh() -> tuple[Candidates, set[str]]:
    """Candidates, and the set of connected nodes that they look at."""
    connected: set[str] = set()
    return Candidates(OWN, connected.__contains__, random.Random(7)), connected


def test_means_are_tried_in_their_order():
    candidates, _ = fresh()
    for means, address in ((Means.GIVEN, "d:1"), (Means.MDNS, "c:1"), (Means.HEARD, "b:1"), (Means.REMEMBERED, "a:1")):
        candidates.learn(address, means, 0.0)
    assert candidates.take_due(0.0) == ("a:1", "b:1", "c:1", "d:1")


def test_a_member_is_retried_quickly_then_ever_more_rarely():
    candidates, _ = fresh()
    candidates.learn("a:1", Means.REMEMBERED, 0.0, ADA)
    now, pauses = 0.0, list[float]()
    for _ in range(12):
        assert candidates.take_due(now) == ("a:1",)
        candidates.failed("a:1", Failure.UNREACHABLE, now)
        due = candidates.next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
    for n, pause in enumerate(pauses):
        full = min(RETRY_MAX_S, FIRST_RETRY_S * 2**n)
        assert full * (1 - JITTER) <= pause <= full


def test_an_unknown_address_is_dialled_once_in_thirty_seconds():
    candidates, _ = fresh()
    candidates.learn("a:1", Means.MDNS, 0.0)
    assert candidates.take_due(0.0) == ("a:1",)
    candidates.failed("a:1", Failure.UNREACHABLE, 1.0)
    candidates.learn("a:1", Means.MDNS, 2.0)
    assert candidates.take_due(30.9) == ()
    assert candidates.take_due(31.0) == ("a:1",)


def test_own_addresses_and_refusals_wait_long_unless_something_changed():
    candidates, _ = fresh()
    candidates.learn("a:1", Means.MDNS, 0.0)
    candidates.take_due(0.0)
    candidates.failed("a:1", Failure.POINTLESS, 0.0)
    assert candidates.take_due(POINTLESS_RETRY_S * (1 - JITTER) - 1) == ()
    candidates.reconsider(5.0)
    assert candidates.take_due(5.0) == ("a:1",)


def test_a_refusal_that_was_under_way_when_something_changed_decides_nothing():
    candidates, _ = fresh()
    candidates.learn("a:1", Means.MDNS, 0.0)
    candidates.take_due(0.0)
    candidates.reconsider(1.0)
    candidates.failed("a:1", Failure.POINTLESS, 2.0)
    assert candidates.take_due(2.0 + FIRST_RETRY_S) == ("a:1",)
    candidates.failed("a:1", Failure.POINTLESS, 3.0)
    assert candidates.take_due(100.0) == ()


def test_a_connected_member_is_left_alone_until_its_link_ends():
    candidates, connected = fresh()
    candidates.learn("a:1", Means.MDNS, 0.0)
    candidates.take_due(0.0)
    connected.add(ADA)
    candidates.linked("a:1", ADA, 0.0)
    candidates.learn("b:1", Means.HEARD, 1.0, ADA)
    assert candidates.take_due(100.0) == ()
    assert candidates.next_due() is None
    connected.remove(ADA)
    candidates.peer_lost(ADA, 200.0)
    due = candidates.next_due()
    assert due is not None
    assert due <= 200.0 + FIRST_RETRY_S
    assert len(candidates.take_due(200.0 + FIRST_RETRY_S)) == 1  # one address of a member at a time


def test_a_removed_member_is_forgotten_and_not_learned_again():
    candidates, _ = fresh()
    candidates.learn("a:1", Means.REMEMBERED, 0.0, ADA)
    candidates.learn("b:1", Means.REMEMBERED, 0.0, BOB)
    candidates.set_removed({ADA})
    candidates.learn("c:1", Means.HEARD, 0.0, ADA)
    assert candidates.take_due(0.0) == ("b:1",)


def test_a_crowd_seen_by_mdns_displaces_nobody_better():
    candidates, _ = fresh()
    candidates.learn("given:1", Means.GIVEN, 0.0)
    candidates.learn("ada:1", Means.REMEMBERED, 0.0, ADA)
    for n in range(2 * CANDIDATES_MAX):
        candidates.learn(f"crowd{n}:1", Means.MDNS, 0.0)
    assert len(candidates) == CANDIDATES_MAX
    candidates.learn("bob:1", Means.HEARD, 1.0, BOB)
    assert len(candidates) == CANDIDATES_MAX
    assert candidates.take_due(1.0)[:2] == ("ada:1", "bob:1")


def test_hearsay_does_not_rename_a_known_address():
    candidates, connected = fresh()
    candidates.learn("a:1", Means.REMEMBERED, 0.0, ADA)
    candidates.learn("a:1", Means.HEARD, 0.0, BOB)
    connected.add(BOB)
    assert candidates.take_due(0.0) == ("a:1",)


class AnyHistory(RuleBasedStateMachine):
    """Random events in any order, against the bounds and the rate."""

    addresses = st.integers(0, 400).map(lambda n: f"h{n}:1")
    nodes = st.sampled_from([None, OWN, ADA, BOB, node_id(4)])

    def __init__(self) -> None:
        super().__init__()
        self.candidates, self.connected = fresh()
        self.now = 0.0
        self.dialling: set[str] = set()
        self.removed: set[str] = set()
        self.owners: dict[str, str] = {}
        self.failed_at: dict[str, float] = {}

    @rule(address=addresses, means=st.sampled_from(Means), node=nodes)
    def learn(self, address: str, means: Means, node: str | None) -> None:
        self.candidates.learn(address, means, self.now, node)

    @rule(numbers=st.lists(st.integers(0, 10_000), max_size=300))
    def learn_a_crowd(self, numbers: list[int]) -> None:
        for number in numbers:
            self.candidates.learn(f"crowd{number}:1", Means.MDNS, self.now)

    @rule(pause_s=st.floats(0, 40))
    def wait(self, pause_s: float) -> None:
        self.now += pause_s

    @rule()
    def dial(self) -> None:
        due = self.candidates.next_due()
        taken = self.candidates.take_due(self.now)
        assert bool(taken) == (due is not None and due <= self.now)
        assert not self.dialling & set(taken)
        for address in taken:
            assert self.owners.get(address) not in self.connected | self.removed | {OWN}
            assert self.now - self.failed_at.get(address, -1e9) >= FIRST_RETRY_S * (1 - JITTER) - 1e-9
        self.dialling |= set(taken)

    @rule(fails=st.sampled_from([*Failure, None]), node=st.sampled_from([ADA, BOB]))
    def dial_ends(self, fails: Failure | None, node: str) -> None:
        if not self.dialling:
            return
        address = min(self.dialling)
        self.dialling.remove(address)
        if fails:
            self.failed_at[address] = self.now
            self.candidates.failed(address, fails, self.now)
        elif node not in self.removed:
            self.connected.add(node)
            self.owners[address] = node
            self.candidates.linked(address, node, self.now)
        else:
            self.failed_at[address] = self.now
            self.candidates.failed(address, Failure.POINTLESS, self.now)

    @rule(node=st.sampled_from([ADA, BOB]))
    def lose(self, node: str) -> None:
        if node in self.connected:
            self.connected.remove(node)
            self.failed_at.clear()
            self.candidates.peer_lost(node, self.now)

    @rule()
    def reconsider(self) -> None:
        self.failed_at.clear()
        self.candidates.reconsider(self.now)

    @rule(node=st.sampled_from([ADA, BOB]))
    def remove(self, node: str) -> None:
        self.removed.add(node)
        self.connected.discard(node)
        self.candidates.set_removed(self.removed)
        self.dialling &= self.candidates._known.keys()
        self.owners = {address: owner for address, owner in self.owners.items() if owner != node}

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.candidates) <= CANDIDATES_MAX
        assert len(self.dialling) <= DIALS_MAX


AnyHistory.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase
