"""Random clusters and histories for property tests: few nodes and instances, so that events meet one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

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
from peerinfer.control.state import (
    Ballot,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Device,
    Epoch,
    HeldStage,
    Instance,
    InstanceState,
    Liveness,
    ModelFile,
    Neighbour,
    NodeReport,
    Speed,
    StagePlace,
)

T = TypeVar("T")

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For machines that have much else to do."""

nodes = st.sampled_from([f"{number:032x}" for number in range(4)])
instance_ids = st.sampled_from(["a" * 32, "b" * 32, "c" * 32])
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
shown = names.filter(str.isprintable)
"""What an instance may be called."""
whole = st.integers(0, 2**63 - 1)
measures = st.floats(0, allow_nan=False, allow_infinity=False)
livenesses = st.sampled_from(Liveness)
epochs = st.builds(Epoch, whole, nodes, whole)
ballots = st.builds(Ballot, st.integers(0, 2**62), nodes)
held = st.builds(HeldStage, instance_ids, epochs, whole, names, measures, measures, measures, whole, measures)
reports = st.builds(
    NodeReport,
    names,
    whole,
    whole,
    st.lists(st.builds(Device, names, names, whole, whole, whole), max_size=2).map(tuple),
    st.none() | st.booleans(),
    st.lists(names, max_size=2).map(tuple),
    st.lists(st.builds(ModelFile, names, names, whole), max_size=2).map(tuple),
    st.lists(held, max_size=2).map(tuple),
)
links = st.builds(ClusterLink, nodes, nodes, st.none() | measures, st.none() | measures)
speeds = st.builds(Speed, instance_ids, measures, measures, st.none() | epochs)
neighbours = st.builds(Neighbour, names, st.booleans(), st.none() | st.integers(1, 65535))
instances = st.builds(
    Instance,
    instance_ids,
    shown,
    shown,
    epochs,
    st.sampled_from(InstanceState),
    st.lists(st.builds(StagePlace, nodes, shown, st.integers(0, 9), st.integers(10, 20)), min_size=1, max_size=3).map(
        tuple
    ),
    st.integers(1, 1 << 24),
    st.integers(1, 256),
    shown,
)

KINDS: dict[type[ClusterEvent], st.SearchStrategy[ClusterEvent]] = {
    MemberAppeared: st.builds(MemberAppeared, nodes, names, livenesses),
    MemberChanged: st.builds(MemberChanged, nodes, names, livenesses),
    MemberLeft: st.builds(MemberLeft, nodes),
    SnapshotReceived: st.builds(SnapshotReceived, nodes, reports),
    LeaderChanged: st.builds(LeaderChanged, st.none() | nodes, st.none() | ballots),
    InstancesChanged: st.builds(InstancesChanged, st.lists(instances, max_size=3).map(tuple)),
    LinkMeasured: st.builds(LinkMeasured, links),
    LinkLost: st.builds(LinkLost, nodes, nodes),
    NeighboursChanged: st.builds(NeighboursChanged, st.lists(neighbours, max_size=2).map(tuple)),
    SpeedMeasured: st.builds(SpeedMeasured, speeds),
}
events = st.one_of(*KINDS.values())
histories = st.lists(events, max_size=12)


def ordered(items: st.SearchStrategy[T], key: Callable[[T], object]) -> st.SearchStrategy[tuple[T, ...]]:
    """Some of `items` with different keys, in their order."""
    some = st.lists(items, max_size=3, unique_by=key)  # pyright: ignore[reportArgumentType] - the keys are hashable
    return some.map(lambda found: tuple(sorted(found, key=key)))  # pyright: ignore[reportArgumentType, reportCallIssue]


states = st.builds(
    ClusterState,
    node=nodes,
    mesh=names,
    leader=st.none() | nodes,
    ballot=st.none() | ballots,
    members=ordered(st.builds(ClusterMember, nodes, names, livenesses, st.none() | reports), lambda one: one.id),
    neighbours=st.lists(neighbours, max_size=2).map(tuple),
    links=ordered(links, lambda one: one.ends),
    instances=st.lists(instances, max_size=2).map(tuple),
    speeds=ordered(speeds, lambda one: one.instance),
)
