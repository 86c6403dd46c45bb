"""Finds what changed: compares what this node sees with the state it shows, and gives the events between. Pure.

It is asked four times a second and at every snapshot, so it never compares deeply: a snapshot is looked into only
when it is another object than last time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from peerinfer.control.events import (
    ClusterEvent,
    LinkLost,
    LinkMeasured,
    MemberAppeared,
    MemberChanged,
    MemberLeft,
    NeighboursChanged,
    SnapshotReceived,
    SpeedMeasured,
)
from peerinfer.control.members import Members
from peerinfer.control.state import (
    NEIGHBOURS_MAX,
    ClusterLink,
    ClusterMember,
    ClusterState,
    Liveness,
    ModelFile,
    Neighbour,
    NodeReport,
    Speed,
)
from peerinfer.gossip.snapshot import Snapshot

NEIGHBOURS_EVERY_S: Final = 1.0
"""How often discovery is asked: it makes hashes to tell our mesh from others."""
RTT_SHARE: Final = 0.1
"""A round trip that differs by less from what was told last is no news; the moving average never stands still."""
RTT_STEP_US: Final = 50.0
"""The same for links so quick that a tenth of them is the noise of the event loop."""


class Observer:
    """What this node saw last, as far as it is not in the state. `nearby` and `measured` answer at once."""

    def __init__(self, nearby: Callable[[], Sequence[Neighbour]], measured: Callable[[str], Speed | None]) -> None:
        self._nearby = nearby
        self._measured = measured
        self._snapshots: dict[str, Snapshot | None] = {}
        self._nearby_at = -math.inf

    def look(
        self, state: ClusterState, members: Members, rtt_us: Mapping[str, float | None], now: float
    ) -> list[ClusterEvent]:
        """What happened since `state`. `rtt_us` is the round trip to each connected peer."""
        return [
            *self._of_members(state, members),
            *_of_links(state, {member.node for member in members}, rtt_us),
            *self._of_neighbours(state, now),
            *self._of_speeds(state),
        ]

    def _of_members(self, state: ClusterState, members: Members) -> Iterator[ClusterEvent]:
        known = {member.id: member for member in state.members}
        for member in members:
            before = known.pop(member.node, None)
            if before is None:
                yield MemberAppeared(member.node, member.name, member.state)
            elif (before.name, before.state) != (member.name, member.state):
                yield MemberChanged(member.node, member.name, member.state)
            is_new = before is None or member.snapshot is not self._snapshots.get(member.node)
            if member.snapshot is not None and is_new:
                yield SnapshotReceived(member.node, report_of(member.snapshot))
        for node in known:
            yield MemberLeft(node)
        self._snapshots = {member.node: member.snapshot for member in members}

    def _of_neighbours(self, state: ClusterState, now: float) -> Iterator[ClusterEvent]:
        if now - self._nearby_at < NEIGHBOURS_EVERY_S:
            return
        self._nearby_at = now
        neighbours = tuple(self._nearby())[:NEIGHBOURS_MAX]
        if neighbours != state.neighbours:
            yield NeighboursChanged(neighbours)

    def _of_speeds(self, state: ClusterState) -> Iterator[ClusterEvent]:
        told = {speed.instance: speed for speed in state.speeds}
        for instance in state.instances:
            speed = self._measured(instance.id)
            if speed is not None and speed != told.get(instance.id):
                yield SpeedMeasured(speed)


def first_state(node: str, mesh: str, own: Snapshot) -> ClusterState:
    """What a node shows before anything happened: itself, as in its own snapshot."""
    return ClusterState(node, mesh, members=(ClusterMember(node, own.name, Liveness.ALIVE, report_of(own)),))


def report_of(snapshot: Snapshot) -> NodeReport:
    """What of a snapshot is shown."""
    return NodeReport(
        version=snapshot.version,
        memory_bytes=snapshot.memory_bytes,
        memory_free_bytes=snapshot.memory_free_bytes,
        devices=snapshot.devices,
        on_battery=snapshot.on_battery,
        engines=snapshot.engines,
        models=tuple(ModelFile(model.name, model.digest, model.size_bytes) for model in snapshot.models),
        stages=snapshot.stages,
    )


def _of_links(state: ClusterState, members: set[str], rtt_us: Mapping[str, float | None]) -> Iterator[ClusterEvent]:
    """Only links with members are shown: one that was just removed may still be connected for a moment."""
    told = {link.target: link for link in state.links if link.origin == state.node}
    for peer, rtt in rtt_us.items():
        link = told.pop(peer, None)
        if peer in members and (link is None or _is_news(link.rtt_us, rtt)):
            yield LinkMeasured(ClusterLink(state.node, peer, rtt))
    for peer in told:
        yield LinkLost(state.node, peer)


def _is_news(told_us: float | None, rtt_us: float | None) -> bool:
    if told_us is None or rtt_us is None:
        return told_us is not rtt_us
    return abs(rtt_us - told_us) > max(RTT_STEP_US, RTT_SHARE * told_us)
