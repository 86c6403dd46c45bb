"""`apply(state, event)`: the next state of the cluster, one small function per event. Pure.

Daemon, terminal and tests fold with this same function, so whoever begins at any state and hears what follows it sees
the same cluster. Every function is total: an event about somebody unknown changes nothing, and neither does one that
tells what is known already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

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
    INSTANCES_MAX,
    LINKS_MAX,
    MEMBERS_MAX,
    NEIGHBOURS_MAX,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Speed,
)

T = TypeVar("T")


def apply(state: ClusterState, event: ClusterEvent) -> ClusterState:
    """The state after `event`; the very same object if that changes nothing."""
    folded = FOLDS[type(event)](state, event)
    return state if folded == state else folded  # quick: what did not change is the same object in both


def _member_appeared(state: ClusterState, event: MemberAppeared) -> ClusterState:
    known = state.member(event.node)
    if known is None and len(state.members) >= MEMBERS_MAX:
        return state
    member = ClusterMember(event.node, event.name, event.state, known.report if known else None)
    return replace(state, members=_with(state.members, member, _id))


def _member_changed(state: ClusterState, event: MemberChanged) -> ClusterState:
    known = state.member(event.node)
    if known is None:
        return state
    return replace(state, members=_with(state.members, replace(known, name=event.name, state=event.state), _id))


def _member_left(state: ClusterState, event: MemberLeft) -> ClusterState:
    """Its links go with it."""
    return replace(
        state,
        members=tuple(member for member in state.members if member.id != event.node),
        links=tuple(link for link in state.links if event.node not in link.ends),
    )


def _snapshot_received(state: ClusterState, event: SnapshotReceived) -> ClusterState:
    known = state.member(event.node)
    if known is None:
        return state
    return replace(state, members=_with(state.members, replace(known, report=event.report), _id))


def _leader_changed(state: ClusterState, event: LeaderChanged) -> ClusterState:
    return replace(state, leader=event.leader, ballot=event.ballot)


def _instances_changed(state: ClusterState, event: InstancesChanged) -> ClusterState:
    """Speeds go with the placements that they were measured of."""
    instances = event.instances[:INSTANCES_MAX]
    speeds = tuple(speed for speed in state.speeds if any(map(speed.is_of, instances)))
    return replace(state, instances=instances, speeds=speeds)


def _link_measured(state: ClusterState, event: LinkMeasured) -> ClusterState:
    if any(state.member(end) is None for end in event.link.ends):
        return state
    links = _with(state.links, event.link, _ends)
    return state if len(links) > LINKS_MAX else replace(state, links=links)


def _link_lost(state: ClusterState, event: LinkLost) -> ClusterState:
    lost = (event.origin, event.target)
    return replace(state, links=tuple(link for link in state.links if link.ends != lost))


def _neighbours_changed(state: ClusterState, event: NeighboursChanged) -> ClusterState:
    return replace(state, neighbours=event.neighbours[:NEIGHBOURS_MAX])


def _speed_measured(state: ClusterState, event: SpeedMeasured) -> ClusterState:
    if not any(map(event.speed.is_of, state.instances)):
        return state
    return replace(state, speeds=_with(state.speeds, event.speed, _instance))


FOLDS: Final[Mapping[type[ClusterEvent], Callable[[ClusterState, Any], ClusterState]]] = {
    MemberAppeared: _member_appeared,
    MemberChanged: _member_changed,
    MemberLeft: _member_left,
    SnapshotReceived: _snapshot_received,
    LeaderChanged: _leader_changed,
    InstancesChanged: _instances_changed,
    LinkMeasured: _link_measured,
    LinkLost: _link_lost,
    NeighboursChanged: _neighbours_changed,
    SpeedMeasured: _speed_measured,
}
"""What each event does."""


def _with(items: tuple[T, ...], new: T, key: Callable[[T], Any]) -> tuple[T, ...]:
    """`items` in the order of their keys, with `new` in place of the one that has its key."""
    others = (item for item in items if key(item) != key(new))
    return tuple(sorted((*others, new), key=key))


def _id(member: ClusterMember) -> str:
    return member.id


def _ends(link: ClusterLink) -> tuple[str, str]:
    return link.ends


def _instance(speed: Speed) -> str:
    return speed.instance
