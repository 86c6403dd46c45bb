"""The members of the mesh as this node sees them now: who is here, and what each said of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldModel, HeldStage, Snapshot


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the roster."""

    node: str
    name: str
    state: Liveness
    snapshot: Snapshot | None = None

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
    liveness_of: Callable[[str], Liveness],
    snapshot_of: Callable[[str], Snapshot | None],
) -> Members:
    """The roster (node id → name) and this node, by id, each with how it stands and what it said last."""

    def member(node: str, name: str) -> Member:
        snapshot = snapshot_of(node)
        shown = snapshot.name if snapshot and snapshot.name else name
        return Member(node, shown, liveness_of(node), snapshot)

    return tuple(member(node, name) for node, name in sorted({me: me, **roster}.items()))


def named(members: Iterable[Member], node: str) -> str:
    """The name of a node for sentences; its id where no name is known."""
    return next((member.name for member in members if member.node == node and member.name), node)
