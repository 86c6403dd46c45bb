"""The leader's own record of an instance: how far each stage is, who waits for it, and when to look at it again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from peerinfer.control.state import REASON_MAX, Instance, InstanceState
from peerinfer.gossip.snapshot import clean
from peerinfer.net.frames import Epoch

Key = tuple[str, Epoch]
"""Id and epoch: after a partition two epochs of one instance can stand side by side for a while."""


@dataclass(slots=True, eq=False)
class Placed:
    """An instance and what its leader must remember of it."""

    instance: Instance
    placed_at: float
    """When it was placed or adopted (seconds)."""
    moved_at: float
    """When loading last made progress (seconds)."""
    ready_at: float = math.inf
    """When all its stages were ready (seconds)."""
    is_adopted: bool = False
    """Whether a former leader placed it, and its workers did not tell of all its stages yet."""
    told: dict[int, str] = field(default_factory=dict[int, str])
    """What the worker of each stage said of it last: `loading` or `ready`."""
    commanded: dict[int, int] = field(default_factory=dict[int, int])
    """Version of the last command to load each stage, under the present ballot."""
    progress: dict[int, float] = field(default_factory=dict[int, float])
    waiting: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(node, request id) of those who wait for the end of loading."""
    tokens: int = 0
    """Tokens that its stages had computed when it was looked at last, while it drains."""
    drop_at: float = 0.0
    """When a draining instance is looked at again (seconds)."""
    drain_until: float = 0.0
    """When it is dropped in any case (seconds)."""
    losses: int = 0
    """How often it was lost in a row, each time soon after it had been placed."""
    retry_at: float = math.inf
    """When a failed one is tried again (seconds)."""
    replaces: Key | None = None
    """The older epoch that serves until this one is ready; None for one that is no move."""
    moves_for: str = ""
    """Why it is placed beside the older epoch, as a sentence."""
    makes_room: bool = False
    """Whether it drains so that the same model can be placed elsewhere."""

    @property
    def key(self) -> Key:
        """What names it."""
        return (self.instance.id, self.instance.epoch)

    @property
    def state(self) -> InstanceState:
        """State of the instance."""
        return self.instance.state

    @property
    def is_live(self) -> bool:
        """Loading or ready: what a request for the model can use."""
        return self.state in (InstanceState.LOADING, InstanceState.READY)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes of its stages."""
        return tuple(stage.node for stage in self.instance.stages)

    @property
    def names(self) -> tuple[str, str, str]:
        """What people may call it."""
        return (self.instance.model, self.instance.digest, self.instance.id)

    @property
    def silent(self) -> tuple[int, ...]:
        """The stages of which nobody told yet."""
        return tuple(number for number in range(len(self.instance.stages)) if number not in self.told)

    @property
    def is_whole(self) -> bool:
        """Whether every stage is ready."""
        return all(self.told.get(number) == "ready" for number in range(len(self.instance.stages)))

    def quiet(self, since: float) -> tuple[str, ...]:
        """The nodes of its stages that are not ready, if it loads and nothing moved after `since` (seconds)."""
        if self.state is not InstanceState.LOADING or self.moved_at > since:
            return ()
        return tuple(node for number, node in enumerate(self.nodes) if self.told.get(number) != "ready")

    def become(self, state: InstanceState, reason: str = "") -> None:
        """Changes the state of the instance."""
        self.instance = replace(self.instance, state=state, reason=clean(reason, REASON_MAX))

    def is_on(self, node: str, stage: int) -> bool:
        """Whether that stage is placed on that node."""
        return 0 <= stage < len(self.instance.stages) and self.instance.stages[stage].node == node

    def forget(self, node: str) -> None:
        """Asks anew how far the stages on `node` are: it may have restarted."""
        for number in [number for number in self.told if self.is_on(node, number)]:
            self.told.pop(number)
            self.progress.pop(number, None)

    def note(self, stage: int, state: str, progress: float, now: float) -> None:
        """A worker said how its stage is."""
        share = 1.0 if state == "ready" else progress
        if self.told.get(stage) != state or share > self.progress.get(stage, -1.0):
            self.moved_at = now
        self.told[stage] = state
        self.progress[stage] = max(share, self.progress.get(stage, 0.0))
