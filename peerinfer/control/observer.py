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
    Instance,
    InstanceState,
    Liveness,
    ModelFile,
    Neighbour,
    NodeReport,
    Speed,
)
from peerinfer.gossip.snapshot import LinkFigure, Snapshot

NEIGHBOURS_EVERY_S: Final = 1.0
"""How often discovery is asked: it makes hashes to tell our mesh from others."""
SPEEDS_MAX: Final = 256
"""Instances whose last speed is remembered: as many as are shown at once."""
RTT_SHARE: Final = 0.1
"""A round trip that differs by less from what was told last is no news; the moving average never stands still."""
RTT_STEP_US: Final = 50.0
"""The same for links so quick that a tenth of them is the noise of the event loop."""


class Observer:
    """What this node saw last, as far as it is not in the state. `nearby` and `measured` answer at once."""

    def __init__(
        self, nearby: Callable[[], Sequence[Neighbour]], measured: Callable[[str], tuple[float, float] | None]
    ) -> None:
        self._nearby = nearby
        self._measured = measured
        self._speeds: dict[str, Speed] = {}
        self._snapshots: dict[str, Snapshot | None] = {}
        self._nearby_at = -math.inf

    def look(
        self, state: ClusterState, members: Members, rtt_us: Mapping[str, float | None], now: float
    ) -> list[ClusterEvent]:
        """What happened since `state`. `rtt_us` is the round trip to each connected peer."""
        return [
            *self._of_members(state, members),
            *_of_links(state, members, rtt_us),
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
        for name in dict.fromkeys(instance.id for instance in state.instances):
            same = [instance for instance in state.instances if instance.id == name]
            speed = self._speed(name, same)
            if speed is not None and speed != told.get(name) and any(map(speed.is_of, same)):
                yield SpeedMeasured(speed)

    def _speed(self, name: str, same: Sequence[Instance]) -> Speed | None:
        """The last speed of an instance, with its epoch where that is sure; `same` are its placements.

        A gateway tells no epoch. An answer that ends while one placement stands alone and is ready came from it; else
        it may be one that a drained or lost placement began.
        """
        figures, known = self._measured(name), self._speeds.get(name)
        if figures is None or (known is not None and (known.tokens_per_s, known.ttft_ms) == figures):
            return known
        is_sure = len(same) == 1 and same[0].state is InstanceState.READY
        self._speeds.pop(name, None)
        while len(self._speeds) >= SPEEDS_MAX:
            del self._speeds[next(iter(self._speeds))]
        self._speeds[name] = Speed(name, *figures, same[0].epoch if is_sure else None)
        return self._speeds[name]


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
        battery_percent=snapshot.battery_percent,
        lid_closed=snapshot.lid_closed,
        user_active=snapshot.user_active,
        thermal=snapshot.thermal,
        swap_used_bytes=snapshot.swap_used_bytes,
        troubles=snapshot.troubles,
        policy=snapshot.policy,
    )


def _of_links(state: ClusterState, members: Members, rtt_us: Mapping[str, float | None]) -> Iterator[ClusterEvent]:
    """Own links as they are now, those of others as they told; only between members, of which a removed one is none."""
    told = {link.ends: link for link in state.links}
    for link in _links(state.node, members, rtt_us):
        before = told.pop(link.ends, None)
        if before is None or _is_news(before, link):
            yield LinkMeasured(link)
    for origin, target in told:
        yield LinkLost(origin, target)


def _links(me: str, members: Members, rtt_us: Mapping[str, float | None]) -> Iterator[ClusterLink]:
    known = {member.node for member in members}
    for member in members:
        figures = {figure.peer: figure for figure in member.snapshot.links} if member.snapshot else {}
        told = {peer: figure.rtt_us for peer, figure in figures.items()}
        times = rtt_us if member.node == me else told if member.state is Liveness.ALIVE else {}
        for peer in [peer for peer in times if peer in known and peer != member.node]:
            yield _link(member.node, peer, times[peer], figures.get(peer))


def _link(origin: str, target: str, rtt_us: float | None, figure: LinkFigure | None) -> ClusterLink:
    rate = figure.bandwidth_bytes_per_s if figure is not None else 0.0
    return ClusterLink(origin, target, rtt_us, rate or None, figure is not None and figure.is_stale)


def _is_news(before: ClusterLink, now: ClusterLink) -> bool:
    if before.is_stale != now.is_stale or _differ(before.bandwidth_bytes_per_s, now.bandwidth_bytes_per_s, 0.0):
        return True
    return _differ(before.rtt_us, now.rtt_us, RTT_STEP_US)


def _differ(before: float | None, now: float | None, step: float) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) > max(step, RTT_SHARE * before)
