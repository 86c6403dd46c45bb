"""The ring of one placement, hop by hop: who computes which layers, and where a token's time goes. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from peerinfer.control.state import (
    ClusterMember,
    ClusterState,
    HeldStage,
    Instance,
    InstanceState,
    Liveness,
    StagePlace,
)

READY: Final = "ready"
"""The state of a stage that runs."""


class Part(enum.StrEnum):
    """What the time of a hop goes to."""

    COMPUTE = "compute"
    WIRE = "wire"
    WAIT = "wait"


class Standing(enum.StrEnum):
    """How a node stands, for people."""

    ALIVE = "alive"
    UNREACHABLE = "unreachable"
    GONE = "gone"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Hop:
    """One stage, and the way to it from the former one. Times are milliseconds per token; 0 before the first."""

    place: StagePlace
    state: str
    """`loading`, `ready` or `failed`; empty while its node has not told."""
    progress: float
    """Share of its loading that is done, 0 … 1."""
    compute_ms: float
    wire_ms: float
    """From the former stage; on the first one of several, the way back from the last."""
    wait_ms: float
    tokens: int
    """Computed so far."""

    @property
    def times(self) -> tuple[tuple[Part, float], ...]:
        """Each part with its milliseconds."""
        return ((Part.COMPUTE, self.compute_ms), (Part.WIRE, self.wire_ms), (Part.WAIT, self.wait_ms))


def hops_of(instance: Instance, state: ClusterState) -> tuple[Hop, ...]:
    """The ring of an instance in order."""
    held = state.held(instance)
    return tuple(_hop(place, held.get(number)) for number, place in enumerate(instance.stages))


def bottleneck(hops: tuple[Hop, ...]) -> tuple[int, Part] | None:
    """Which hop, and which part of it, takes most of a token's time; None before anything was measured."""
    parts = [(ms, number, part) for number, hop in enumerate(hops) for part, ms in hop.times]
    most = max(parts, key=lambda each: each[0], default=None)
    return None if most is None or most[0] <= 0 else (most[1], most[2])


def token_ms(hops: tuple[Hop, ...]) -> float:
    """What a token takes around the ring; 0 while a stage has measured nothing."""
    if not hops or any(hop.compute_ms <= 0 for hop in hops):
        return 0.0
    return sum(ms for hop in hops for _, ms in hop.times)


def standing(member: ClusterMember, state: ClusterState) -> Standing:
    """How a node stands: one whose stages are all on their way to other nodes is draining."""
    if member.state is not Liveness.ALIVE:
        return Standing(member.state.value)
    states = {one.state for one in state.instances if any(place.node == member.id for place in one.stages)}
    return Standing.DRAINING if states == {InstanceState.DRAINING} else Standing.ALIVE


def main_instance(state: ClusterState, chosen: str = "") -> Instance | None:
    """The placement to show: of the chosen instance, else of any; one that runs before one that does not."""
    mine = [one for one in state.instances if one.id == chosen] or list(state.instances)
    order = (InstanceState.READY, InstanceState.LOADING, InstanceState.DRAINING, InstanceState.FAILED)
    return min(mine, key=lambda one: order.index(one.state), default=None)


def _hop(place: StagePlace, held: HeldStage | None) -> Hop:
    if held is None:
        return Hop(place, "", 0.0, 0.0, 0.0, 0.0, 0)
    times = (held.ms_per_token, held.hop_in_ms, held.wait_ms)
    return Hop(place, held.state, held.progress, *times, held.tokens)
