"""Who is drawn: a node in a mesh, with an eye on one placement, and the signs of how it stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from peerinfer.control.state import ClusterMember, ClusterState, Instance
from tui.mesh.hops import Standing, standing
from tui.picture.canvas import STAGE_ROLES, Role

STATE_SIGNS: Final[Mapping[Standing, tuple[str, Role]]] = {
    Standing.ALIVE: ("●", Role.GOOD),
    Standing.UNREACHABLE: ("◐", Role.WARNING),
    Standing.GONE: ("○", Role.BAD),
    Standing.DRAINING: ("◒", Role.WARNING),
}
"""Signs that differ in shape, not only in colour."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One node to be drawn."""

    member: ClusterMember
    state: ClusterState
    instance: Instance | None
    """The placement that is looked at."""

    @property
    def is_leader(self) -> bool:
        """Whether it leads."""
        return self.state.leader == self.member.id

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return standing(self.member, self.state)


@dataclass(frozen=True, slots=True)
class Look:
    """What the graph shows: a mesh with an eye on one placement and one node."""

    state: ClusterState
    instance: Instance | None
    chosen: str = ""
    """The node that a person points at."""
    is_active: bool = False
    """Whether tokens go around the ring now."""


def stage_role(number: int) -> Role:
    """The colour of a stage."""
    return STAGE_ROLES[number % len(STAGE_ROLES)]
