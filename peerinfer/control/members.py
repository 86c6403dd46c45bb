"""The members of the mesh as this node sees them now: who is here, and what each said of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from peerinfer.gossip.liveness import Liveness, liveness
from peerinfer.gossip.snapshot import HeldModel, HeldStage, Snapshot


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the roster."""

    node: str
    name: str
    state: Liveness
    heard: bool
    """Whether this node ever heard it."""
    snapshot: Snapshot | None = None

    @property
    def is_visible(self) -> bool:
        """Whether it takes part in the choice of a leader: heard, and not gone."""
        return self.heard and self.state is not Liveness.GONE

    def model(self, digest: str) -> HeldModel | None:
        """The file with this digest, if the member has it."""
        models = self.snapshot.models if self.snapshot else ()
        return next((model for model in models if model.digest == digest), None)

    def stages(self) -> tuple[HeldStage, ...]:
        """The stages that it said it holds."""
        return self.snapshot.stages if self.snapshot else ()


Members = tuple[Member, ...]


def members_now(
    me: str,
    roster: Mapping[str, str],
    *,
    heard_at: Mapping[str, float],
    snapshot_of: Callable[[str], Snapshot | None],
    since: float,
    now: float,
) -> Members:
    """The roster (node id → name) with liveness, by id. `since` is when this node began to listen; it is alive."""

    def member(node: str, name: str) -> Member:
        snapshot = snapshot_of(node)
        heard = now if node == me else heard_at.get(node)
        shown = snapshot.name if snapshot and snapshot.name else name
        return Member(node, shown, liveness(heard, since, now), heard is not None, snapshot)

    return tuple(member(node, name) for node, name in sorted({me: me, **roster}.items()))


def named(members: Iterable[Member], node: str) -> str:
    """The name of a node for sentences; its id where no name is known."""
    return next((member.name for member in members if member.node == node and member.name), node)
