"""What can happen to the cluster as this node shows it: each event is a change of `ClusterState`, told once. Pure.

`apply` folds them. Two are told by the machines of control themselves: `LeaderChanged` and `InstancesChanged`.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.control.effects import InstancesChanged
from peerinfer.control.state import ClusterLink, Liveness, Neighbour, NodeReport, Speed
from peerinfer.election.effects import LeaderChanged

__all__ = [
    "ClusterEvent",
    "InstancesChanged",
    "LeaderChanged",
    "LinkLost",
    "LinkMeasured",
    "MemberAppeared",
    "MemberChanged",
    "MemberLeft",
    "NeighboursChanged",
    "SnapshotReceived",
    "SpeedMeasured",
]


@dataclass(frozen=True, slots=True)
class MemberAppeared:
    """A node is in the roster now."""

    node: str
    name: str
    state: Liveness


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member has another liveness or name now."""

    node: str
    name: str
    state: Liveness


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """A node is in the roster no more."""

    node: str


@dataclass(frozen=True, slots=True)
class SnapshotReceived:
    """A member told something new of itself."""

    node: str
    report: NodeReport


@dataclass(frozen=True, slots=True)
class LinkMeasured:
    """There is a link, and this was measured of it."""

    link: ClusterLink


@dataclass(frozen=True, slots=True)
class LinkLost:
    """There is no link between these two any more."""

    origin: str
    target: str


@dataclass(frozen=True, slots=True)
class NeighboursChanged:
    """All unpaired meshes nearby, as they are now."""

    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class SpeedMeasured:
    """An answer of an instance ended, and this was its speed."""

    speed: Speed


ClusterEvent = (
    MemberAppeared
    | MemberChanged
    | MemberLeft
    | SnapshotReceived
    | LeaderChanged
    | InstancesChanged
    | LinkMeasured
    | LinkLost
    | NeighboursChanged
    | SpeedMeasured
)
