"""`apply`: what each event does to the cluster, that it is total and repeatable, and that it touches nothing."""

from __future__ import annotations

import copy
import typing
from dataclasses import replace

import pytest
from hypothesis import given

from peerinfer.control import state as limits
from peerinfer.control.apply import FOLDS, apply
from peerinfer.control.events import (
    ClusterEvent,
    InstancesChanged,
    LeaderChanged,
    LinkLost,
    LinkMeasured,
    MemberAppeared,
    MemberChanged,
    MemberLeft,
    NeighboursChanged,
    SnapshotReceived,
    SpeedMeasured,
)
from peerinfer.control.intents import INTENTS_MAX
from peerinfer.control.state import (
    Ballot,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Epoch,
    Instance,
    InstanceState,
    Liveness,
    Neighbour,
    NodeReport,
    Speed,
    StagePlace,
)
from peerinfer.identity import roster
from peerinfer.net import connector, discovery
from tests.control import histories

ALONE = ClusterState("b", "m", members=(ClusterMember("b", "bed", Liveness.ALIVE),))
PAIR = replace(ALONE, members=(ClusterMember("a", "attic", Liveness.ALIVE), *ALONE.members))
REPORT = NodeReport("1", 16, 9)
LINK = ClusterLink("a", "b", 210.0)


def instance(number: int) -> Instance:
    stages = (StagePlace("b", "llama.cpp", 0, 3),)
    return Instance(f"{number:032}", "tiny", "d", Epoch(1, "b", 1), InstanceState.READY, stages, 512, 1)


def after(state: ClusterState, *events: ClusterEvent) -> ClusterState:
    for event in events:
        state = apply(state, event)
    return state


def test_every_event_has_its_function_and_is_tried_here() -> None:
    assert set(FOLDS) == set(typing.get_args(ClusterEvent)) == set(histories.KINDS)


def test_a_member_appears_in_its_place_changes_tells_and_leaves() -> None:
    state = after(ALONE, MemberAppeared("a", "attic", Liveness.UNREACHABLE))
    assert [(one.id, one.name, one.state) for one in state.members] == [
        ("a", "attic", Liveness.UNREACHABLE),
        ("b", "bed", Liveness.ALIVE),
    ]
    state = after(state, SnapshotReceived("a", REPORT), MemberChanged("a", "loft", Liveness.ALIVE))
    assert state.member("a") == ClusterMember("a", "loft", Liveness.ALIVE, REPORT)
    assert after(state, MemberLeft("a")) == ALONE


def test_a_member_that_appears_again_keeps_what_it_told() -> None:
    state = after(PAIR, SnapshotReceived("a", REPORT), MemberAppeared("a", "loft", Liveness.GONE))
    assert state.member("a") == ClusterMember("a", "loft", Liveness.GONE, REPORT)


def test_a_leader_comes_and_goes() -> None:
    led = after(ALONE, LeaderChanged("a", Ballot(3, "a")))
    assert (led.leader, led.ballot) == ("a", Ballot(3, "a"))
    assert after(led, LeaderChanged(None, None)) == ALONE


def test_links_stand_between_members_and_end_with_them() -> None:
    state = after(PAIR, LinkMeasured(replace(LINK, rtt_us=None)), LinkMeasured(LINK), LinkMeasured(reversed_link()))
    assert state.links == (LINK, reversed_link())
    assert after(state, LinkLost("b", "a")).links == (LINK,)
    assert after(state, MemberLeft("a")).links == ()
    assert after(ALONE, LinkMeasured(LINK)) is ALONE


def reversed_link() -> ClusterLink:
    return ClusterLink("b", "a", 90.0)


def test_speeds_go_with_their_instances() -> None:
    one, two = instance(1), instance(2)
    fast, slow = Speed(one.id, 50.0, 10.0, one.epoch), Speed(two.id, 5.0, 100.0, two.epoch)
    state = after(ALONE, InstancesChanged((two, one)), SpeedMeasured(slow), SpeedMeasured(fast))
    assert (state.instances, state.speeds) == ((two, one), (fast, slow))
    assert (state.speed(one.id), state.speed("other")) == (fast, None)
    assert after(state, InstancesChanged((one,))).speeds == (fast,)
    moved = replace(one, epoch=replace(one.epoch, n=one.epoch.n + 1))
    assert after(state, InstancesChanged((one, moved))).speeds == (fast,)
    assert after(state, InstancesChanged((moved,))).speeds == ()
    assert after(state, SpeedMeasured(replace(fast, epoch=moved.epoch))) is state


def test_neighbours_are_replaced() -> None:
    near = (Neighbour("192.0.2.9:8643", True, 4000),)
    assert after(ALONE, NeighboursChanged(near)).neighbours == near


@pytest.mark.parametrize(
    "event",
    [
        MemberChanged("x", "", Liveness.GONE),
        MemberLeft("x"),
        SnapshotReceived("x", REPORT),
        LinkMeasured(ClusterLink("b", "x", None)),
        LinkLost("b", "x"),
        SpeedMeasured(Speed("x", 1.0, 1.0)),
        LeaderChanged(None, None),
        InstancesChanged(()),
        NeighboursChanged(()),
        MemberAppeared("b", "bed", Liveness.ALIVE),
    ],
)
def test_what_is_unknown_or_known_already_changes_nothing(event: ClusterEvent) -> None:
    assert apply(ALONE, event) is ALONE


def test_nothing_grows_over_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from peerinfer.control import apply as module

    for name in ("MEMBERS_MAX", "LINKS_MAX", "INSTANCES_MAX", "NEIGHBOURS_MAX"):
        monkeypatch.setattr(module, name, 2)
    assert after(PAIR, MemberAppeared("c", "", Liveness.ALIVE)) is PAIR
    full = replace(PAIR, links=(LINK, reversed_link()))
    assert after(full, LinkMeasured(ClusterLink("a", "a", 1.0))) is full
    assert after(full, LinkMeasured(replace(LINK, rtt_us=1.0))).links[0].rtt_us == 1.0
    assert len(after(PAIR, InstancesChanged((instance(1), instance(2), instance(3)))).instances) == 2
    near = tuple(Neighbour(str(port), False) for port in range(3))
    assert len(after(PAIR, NeighboursChanged(near)).neighbours) == 2


def test_the_limits_are_those_of_what_is_shown() -> None:
    assert limits.MEMBERS_MAX == roster.MEMBERS_MAX
    assert limits.NEIGHBOURS_MAX == discovery.SEEN_MAX
    assert limits.INSTANCES_MAX == INTENTS_MAX
    assert limits.LINKS_MAX >= connector.LINKS_MAX * (connector.LINKS_MAX - 1)


def test_a_state_that_is_too_large_or_out_of_order_is_none() -> None:
    members = tuple(ClusterMember(f"{number:03}", "", Liveness.ALIVE) for number in range(limits.MEMBERS_MAX + 1))
    for wrong in ({"members": members}, {"members": PAIR.members[::-1]}, {"links": (LINK, LINK)}):
        with pytest.raises(ValueError, match="out of order"):
            replace(PAIR, **wrong)  # pyright: ignore[reportArgumentType] - one of the fields each


def test_names_are_for_people() -> None:
    nameless = replace(PAIR, members=(ClusterMember("a", "", Liveness.ALIVE), *ALONE.members))
    assert [nameless.name_of(node) for node in "abx"] == ["a", "bed", "x"]


@histories.unhurried
@given(histories.states, histories.events)
def test_any_event_on_any_state_gives_a_state_the_same_one_if_repeated(
    state: ClusterState, event: ClusterEvent
) -> None:
    once = apply(state, event)
    assert apply(once, event) is once


@histories.unhurried
@given(histories.states, histories.events)
def test_nothing_is_mutated(state: ClusterState, event: ClusterEvent) -> None:
    before = copy.deepcopy((state, event))
    apply(state, event)
    assert (state, event) == before
    hash((state, event))  # frozen to the last field
