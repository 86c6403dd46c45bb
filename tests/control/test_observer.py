"""The observer: what changed is told, what did not is not, and nothing is compared deeply for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from peerinfer.control import observer as module
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.events import (
    ClusterEvent,
    InstancesChanged,
    LinkLost,
    LinkMeasured,
    MemberAppeared,
    MemberChanged,
    MemberLeft,
    NeighboursChanged,
    SnapshotReceived,
    SpeedMeasured,
)
from peerinfer.control.members import Member
from peerinfer.control.observer import NEIGHBOURS_EVERY_S, Observer, first_state, report_of
from peerinfer.control.state import (
    ClusterLink,
    Epoch,
    Instance,
    InstanceState,
    Liveness,
    ModelFile,
    Neighbour,
    Speed,
)
from peerinfer.gossip.snapshot import LinkFigure, Snapshot
from tests.control.cluster import MODEL
from tests.control.test_apply import instance

OWN = Snapshot("attic", "1", 16, 9, engines=("llama.cpp",), models=(MODEL,))
ME = Member("a", "attic", Liveness.ALIVE, OWN)
PEER = Member("b", "bed", Liveness.ALIVE, Snapshot("bed", "1", 8, 4))
BARE = replace(PEER, snapshot=None)


class Watched:
    """An observer with its chronicle, as the door has them."""

    def __init__(self) -> None:
        self.near: list[Neighbour] = []
        self.asked_near = 0
        self.speeds: dict[str, tuple[float, float]] = {}
        self.chronicle = Chronicle(first_state("a", "m", OWN))
        self.observer = Observer(self.nearby, self.speeds.get)
        self.heard: list[ClusterEvent] = []
        self.chronicle.follow(self)

    def nearby(self) -> list[Neighbour]:
        self.asked_near += 1
        return self.near

    def told(self, number: int, event: ClusterEvent) -> None:
        self.heard.append(event)

    def ended(self) -> None:
        raise AssertionError

    def see(self, *members: Member, rtt_us: Mapping[str, float | None] | None = None, now: float = 0.0) -> list[object]:
        """What was told because of a look."""
        self.heard.clear()
        self.chronicle.record(self.observer.look(self.chronicle.state, members, rtt_us or {}, now))
        return list(self.heard)


def test_a_node_alone_has_nothing_to_tell() -> None:
    watched = Watched()
    assert watched.see(ME) == []
    assert watched.chronicle.state.member("a") == first_state("a", "m", OWN).members[0]


def test_a_report_has_the_models_without_what_placement_needs() -> None:
    assert report_of(OWN).models == (ModelFile(MODEL.name, MODEL.digest, MODEL.size_bytes),)


def test_members_come_change_tell_and_go() -> None:
    watched = Watched()
    assert watched.see(ME, BARE) == [MemberAppeared("b", "bed", Liveness.ALIVE)]
    assert PEER.snapshot is not None
    assert watched.see(ME, PEER) == [SnapshotReceived("b", report_of(PEER.snapshot))]
    assert watched.see(ME, PEER) == []
    away = replace(PEER, state=Liveness.UNREACHABLE)
    assert watched.see(ME, away) == [MemberChanged("b", "bed", Liveness.UNREACHABLE)]
    assert watched.see(ME, replace(away, name="loft")) == [MemberChanged("b", "loft", Liveness.UNREACHABLE)]
    assert watched.see(ME) == [MemberLeft("b")]
    assert [type(event) for event in watched.see(ME, PEER)] == [MemberAppeared, SnapshotReceived]


def test_a_snapshot_is_looked_into_only_if_it_is_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, looked_into = Watched(), []
    watched.see(ME, PEER)
    monkeypatch.setattr(module, "report_of", lambda snapshot: looked_into.append(snapshot) or report_of(snapshot))
    for _ in range(5):
        watched.see(ME, PEER)
    assert looked_into == []
    assert PEER.snapshot is not None
    same = replace(PEER, snapshot=replace(PEER.snapshot))
    assert watched.see(ME, same) == []
    assert looked_into == [PEER.snapshot]


def test_a_link_is_told_when_it_is_there_measured_and_lost() -> None:
    watched = Watched()
    watched.see(ME, PEER)
    for rtt in (None, 200.0):
        assert watched.see(ME, PEER, rtt_us={"b": rtt}) == [LinkMeasured(ClusterLink("a", "b", rtt))]
        assert watched.see(ME, PEER, rtt_us={"b": rtt}) == []
    assert watched.see(ME, PEER) == [LinkLost("a", "b")]


def test_every_pair_is_shown_by_what_its_nodes_told_and_news_of_it_is_told() -> None:
    watched = Watched()
    watched.see(ME, PEER)

    def seen(rate: float, *, is_stale: bool = False, state: Liveness = Liveness.ALIVE) -> list[object]:
        figure = LinkFigure("b", 200.0, rate, is_stale)
        me = replace(ME, snapshot=replace(OWN, links=(figure,)))
        peer = replace(PEER, state=state, snapshot=replace(OWN, links=(replace(figure, peer="a"),)))
        events = watched.see(me, peer, rtt_us={"b": 200.0})
        return [event for event in events if isinstance(event, (LinkMeasured, LinkLost))]

    def both(rate: float | None, is_stale: bool = False) -> list[object]:
        ends = (("a", "b"), ("b", "a"))
        return [LinkMeasured(ClusterLink(a, b, 200.0, rate, is_stale)) for a, b in ends]

    assert seen(0.0) == both(None)
    assert seen(1e7) == both(1e7)
    assert seen(1.05e7) == []
    assert seen(2e7) == both(2e7)
    assert seen(2e7, is_stale=True) == both(2e7, True)
    assert seen(2e7, is_stale=True, state=Liveness.GONE) == [LinkLost("b", "a")]


def test_noise_in_round_trips_is_no_news() -> None:
    watched = Watched()
    told = [watched.see(ME, PEER, rtt_us={"b": rtt}) for rtt in (200.0, 249.0, 251.0, 10_000.0, 10_999.0, 11_001.0)]
    assert [len(events) for events in told] == [3, 0, 1, 1, 0, 1]


def test_a_link_with_a_node_that_was_removed_is_not_shown() -> None:
    watched = Watched()
    watched.see(ME, PEER, rtt_us={"b": 200.0})
    assert watched.see(ME, rtt_us={"b": 200.0}) == [MemberLeft("b")]
    assert watched.see(ME, rtt_us={"b": 900.0}) == []
    assert watched.chronicle.state.links == ()


def test_neighbours_are_asked_for_once_a_second() -> None:
    watched = Watched()
    watched.see(ME)
    watched.near = [Neighbour("192.0.2.9:8643", True, 4000)]
    assert watched.see(ME, now=NEIGHBOURS_EVERY_S / 2) == []
    assert watched.see(ME, now=NEIGHBOURS_EVERY_S) == [NeighboursChanged(tuple(watched.near))]
    assert watched.see(ME, now=2 * NEIGHBOURS_EVERY_S) == []
    assert watched.asked_near == 3


def test_speeds_are_told_of_instances_that_there_are() -> None:
    watched, one = Watched(), instance(1)
    watched.speeds |= {one.id: (50.0, 10.0), "x": (1.0, 1.0)}
    assert watched.see(ME) == []
    watched.chronicle.record((InstancesChanged((one, instance(2))),))
    assert watched.see(ME) == [SpeedMeasured(Speed(one.id, 50.0, 10.0, one.epoch))]
    assert watched.see(ME) == []
    watched.speeds[one.id] = (60.0, 10.0)
    assert watched.see(ME) == [SpeedMeasured(Speed(one.id, 60.0, 10.0, one.epoch))]


def placed(n: int, state: InstanceState = InstanceState.READY) -> Instance:
    """The same instance in its n-th epoch."""
    return replace(instance(1), epoch=Epoch(9, "a", n), state=state)


def seen(watched: Watched, *instances: Instance, speed: tuple[float, float] | None = None) -> list[object]:
    """What is told when these placements stand, and an answer of this speed ended."""
    watched.chronicle.record((InstancesChanged(instances),))
    if speed is not None:
        watched.speeds[instance(1).id] = speed
    return watched.see(ME)


def test_the_speed_of_a_lost_placement_is_not_that_of_the_next() -> None:
    watched, old, new = Watched(), placed(1), placed(2)
    watched.see(ME)
    before = SpeedMeasured(Speed(old.id, 90.0, 10.0, old.epoch))
    assert seen(watched, old, speed=(90.0, 10.0)) == [before]
    assert seen(watched, placed(1, InstanceState.FAILED)) == []
    assert seen(watched, placed(2, InstanceState.LOADING), speed=(80.0, 10.0)) == []  # it broke off when it was lost
    assert watched.chronicle.state.speeds == ()
    assert seen(watched, new) == []
    after = SpeedMeasured(Speed(new.id, 40.0, 10.0, new.epoch))
    assert seen(watched, new, speed=(40.0, 10.0)) == [after]


def test_while_two_placements_stand_nobody_knows_whose_speed_it_is() -> None:
    watched, old, new = Watched(), placed(1), placed(2)
    watched.see(ME)
    told = seen(watched, old, speed=(90.0, 10.0))
    assert seen(watched, old, placed(2, InstanceState.LOADING)) == []
    assert watched.chronicle.state.speed(old.id) == Speed(old.id, 90.0, 10.0, old.epoch)
    assert seen(watched, placed(1, InstanceState.DRAINING), new, speed=(85.0, 10.0)) == []
    assert seen(watched, new) == []
    assert watched.chronicle.state.speeds == ()
    assert len(told) == len(seen(watched, new, speed=(40.0, 10.0))) == 1


def test_a_placement_that_comes_back_into_the_list_has_its_speed_again() -> None:
    watched, old = Watched(), placed(1)
    watched.see(ME)
    told = seen(watched, old, speed=(90.0, 10.0))
    assert seen(watched) == []
    assert seen(watched, old) == told


def test_only_so_many_speeds_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPEEDS_MAX", 2)
    watched = Watched()
    watched.see(ME)
    for number in range(1, 5):
        watched.speeds[instance(number).id] = (10.0 + number, 10.0)
        watched.chronicle.record((InstancesChanged((instance(number),)),))
        assert len(watched.see(ME)) == 1
