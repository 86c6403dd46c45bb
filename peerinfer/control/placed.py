"""The leader's own record of an instance: its wishes, how far each stage is, and who waits for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from peerinfer.control.messages import StageReport
from peerinfer.control.planning import Wishes
from peerinfer.control.state import Instance, InstanceState
from peerinfer.net.frames import Epoch


@dataclass(slots=True, eq=False)
class Placed:
    """An instance and what its leader must remember of it."""

    instance: Instance
    wishes: Wishes
    moved_at: float
    """When loading last made progress (seconds)."""
    ready: set[int] = field(default_factory=set[int])
    progress: dict[int, float] = field(default_factory=dict[int, float])
    """Share that is done of each stage whose worker reported at all."""
    waiting: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(node, request id) of those who wait for the end of loading."""
    confirmed: bool = True
    """Whether any worker said that it holds a stage of it; an instance adopted from a former leader starts without."""
    denied: str = ""
    """Why a worker says that it does not hold its stage (any more)."""
    replaces: tuple[str, ...] = ()
    """Ids of the instances that are drained once this one is ready."""
    drop_at: float = 0.0
    """When a draining instance is dropped (seconds)."""
    again_at: float | None = None
    """When it was last placed again after a loss."""

    @classmethod
    def adopted(cls, instance: Instance, now: float) -> Placed:
        """What a former leader left. Of its wishes only those that show in the instance are known."""
        wishes = Wishes(instance.digest, instance.context, instance.slots, min_nodes=len(instance.stages))
        everything = set(range(len(instance.stages))) if instance.state is InstanceState.READY else set[int]()
        return cls(instance, wishes, now, ready=everything, confirmed=False)

    @property
    def state(self) -> InstanceState:
        """State of the instance."""
        return self.instance.state

    @property
    def is_live(self) -> bool:
        """Loading or ready: what a request for the model can use."""
        return self.state in (InstanceState.LOADING, InstanceState.READY)

    @property
    def is_doubtful(self) -> bool:
        """Whether somebody denied that it stands, and nobody confirmed it."""
        return bool(self.denied) and not self.confirmed

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes of its stages."""
        return tuple(stage.node for stage in self.instance.stages)

    @property
    def names(self) -> tuple[str, str, str]:
        """What people may call it."""
        return (self.instance.model, self.instance.digest, self.instance.id)

    def become(self, state: InstanceState, reason: str = "") -> None:
        """Changes the state of the instance."""
        self.instance = replace(self.instance, state=state, reason=reason)

    def concerns(self, sender: str, report: StageReport) -> bool:
        """Whether a report is about this very placement, and from the node that holds the stage."""
        stages = self.instance.stages
        if report.epoch != self.instance.epoch or not 0 <= report.stage < len(stages):
            return False
        return stages[report.stage].node == sender

    def forget(self, node: str) -> None:
        """Asks anew how far the stages on `node` are: it may have restarted."""
        for number, stage in enumerate(self.instance.stages):
            if stage.node == node:
                self.progress.pop(number, None)
                self.ready.discard(number)

    def advance(self, report: StageReport, now: float) -> bool:
        """Notes a `loading` or `ready` report; whether all stages are ready now."""
        self.confirmed = True
        done = report.state == "ready"
        progress = 1.0 if done else report.progress
        if progress > self.progress.setdefault(report.stage, 0.0):
            self.progress[report.stage] = progress
            self.moved_at = now
        if done:
            self.ready.add(report.stage)
        return len(self.ready) == len(self.instance.stages)


def instance_id(digest: str, epoch: Epoch) -> str:
    """An id that no two placements of the mesh share: an epoch is minted once."""
    return hashlib.sha256(f"{digest} {epoch.counter} {epoch.node} {epoch.n}".encode()).hexdigest()[:32]
