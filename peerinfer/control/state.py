"""The cluster as it is known on this node: members, links, instances. Values only; no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from peerinfer.net.frames import Epoch

SLOTS_MAX = 256
"""Sequences of one instance: each is a KV cache on every stage."""
CONTEXT_MAX = 1 << 24
"""Tokens of one slot; no model was trained for more."""
STAGES_MAX = 64
"""Stages of one instance: the links of one node."""


class InstanceState(enum.StrEnum):
    """Where a placed model stands."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StagePlace:
    """One stage of an instance: `node` runs layers `first_layer … last_layer - 1` with `engine`."""

    node: str
    engine: str
    first_layer: int
    last_layer: int


@dataclass(frozen=True, slots=True)
class Instance:
    """A model placed on nodes. Its stages stand in ring order; the first takes tokens, the last samples."""

    id: str
    """32 hex characters: the intent's, so it stays the same over leaders and epochs."""
    model: str
    digest: str
    """SHA-256 of the model file, hex: a model is its digest, its name is for people."""
    epoch: Epoch
    state: InstanceState
    stages: tuple[StagePlace, ...]
    """Empty only where it failed before there was a place for it."""
    context: int
    """Tokens per slot."""
    slots: int
    """Sequences served at once."""
    reason: str = ""
    """Why it failed or is not ready, as a sentence."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what no honest leader places: lists of instances come from any member."""
        if (
            min(self.epoch.counter, self.epoch.n) < 0
            or not 1 <= self.slots <= SLOTS_MAX
            or not 1 <= self.context <= CONTEXT_MAX
        ):
            raise ValueError("an instance with impossible numbers")
        fewest = 0 if self.state is InstanceState.FAILED else 1
        if not fewest <= len(self.stages) <= STAGES_MAX or any(
            not 0 <= stage.first_layer < stage.last_layer for stage in self.stages
        ):
            raise ValueError("an instance with impossible stages")
