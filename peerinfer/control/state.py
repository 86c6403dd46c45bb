"""The cluster as it is known on this node: members, links, instances. Values only; no I/O."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from peerinfer.election.ballot import Ballot
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import FREE_POLICY, Device, HeldStage, OwnerPolicy
from peerinfer.net.frames import Epoch

__all__ = [
    "Ballot",
    "ClusterLink",
    "ClusterMember",
    "ClusterState",
    "Device",
    "Epoch",
    "Forecast",
    "HeldStage",
    "Instance",
    "InstanceState",
    "Liveness",
    "ModelFile",
    "Neighbour",
    "NodeReport",
    "Speed",
    "StagePlace",
]

SLOTS_MAX = 256
"""Sequences of one instance: each is a KV cache on every stage."""
CONTEXT_MAX = 1 << 24
"""Tokens of one slot; no model was trained for more."""
WORD_MAX = 64
"""Characters of an id or a digest."""
NAME_MAX = 128
"""Characters of a model's or an engine's name."""
REASON_MAX = 1000
"""Characters of the sentence that says why an instance failed."""
STAGES_MAX = 64
"""Stages of one instance: the links of one node."""
MEMBERS_MAX: Final = 256
"""As many as a roster holds."""
LINKS_MAX: Final = 4096
"""Both directions between 64 nodes, as many as one node has links."""
INSTANCES_MAX: Final = 256
"""As many as there can be intents."""
NEIGHBOURS_MAX: Final = 256
"""As many as discovery remembers."""


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
    accelerated: int | None = None
    """Layers on the node's accelerators, the last ones; None leaves it to the engine."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What its leader expects of a placement, and why it is this one."""

    tokens_per_s: float = 0.0
    """0 where nothing is known of the speed of its nodes."""
    ttft_ms: float = 0.0
    """To the first token after a prompt of 512 tokens; 0 where that is not known."""
    bottleneck: str = ""
    """The stage or link that takes most of a token's time, in words."""
    solver: str = ""
    """`cp-sat`, `greedy`, `rule`, or `fixed` by a person."""
    is_optimal: bool = False
    why: str = ""
    """A sentence."""


NO_FORECAST: Final = Forecast()


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
    """Why it failed, is not ready, or stands otherwise than it was asked for, as a sentence."""
    forecast: Forecast = NO_FORECAST

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
        words = (self.id, self.digest, self.epoch.node, *(stage.node for stage in self.stages))
        names = (self.model, *(stage.engine for stage in self.stages), self.forecast.solver)
        sentences = (self.reason, self.forecast.bottleneck, self.forecast.why)
        too_long = (
            max(map(len, words)) > WORD_MAX or max(map(len, names)) > NAME_MAX or max(map(len, sentences)) > REASON_MAX
        )
        if too_long:
            raise ValueError("an instance with impossible words")
        if not "".join((*words, *names, *sentences)).isprintable():
            raise ValueError("an instance whose words cannot be shown")
        if not all(0 <= figure < math.inf for figure in (self.forecast.tokens_per_s, self.forecast.ttft_ms)):
            raise ValueError("an instance with an impossible forecast")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file on a node, as far as people want to know of it."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a member told of itself last: its snapshot without what only placement needs."""

    version: str
    memory_bytes: int
    memory_free_bytes: int
    devices: tuple[Device, ...] = ()
    on_battery: bool | None = None
    """None where the machine does not say."""
    engines: tuple[str, ...] = ()
    models: tuple[ModelFile, ...] = ()
    stages: tuple[HeldStage, ...] = ()
    battery_percent: float | None = None
    lid_closed: bool | None = None
    user_active: bool | None = None
    thermal: str = ""
    swap_used_bytes: int | None = None
    troubles: tuple[tuple[str, str], ...] = ()
    """(probe, reason) for each that cannot tell what it should."""
    policy: OwnerPolicy = FREE_POLICY


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One node of the roster, as this node sees it."""

    id: str
    name: str
    state: Liveness
    report: NodeReport | None = None
    """None until its first snapshot is here."""


@dataclass(frozen=True, slots=True)
class ClusterLink:
    """A live link between two members, as its first one measured it."""

    origin: str
    target: str
    rtt_us: float | None
    """Round trip; None before the first heartbeat is answered."""
    bandwidth_bytes_per_s: float | None = None
    """What nearly always gets through; None before it was measured."""
    is_stale: bool = False
    """Whether the bandwidth was measured long ago."""

    @property
    def ends(self) -> tuple[str, str]:
        """What tells it from all others."""
        return (self.origin, self.target)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A node of another mesh nearby: an address, never a name."""

    address: str
    pairing: bool
    """Whether it invites."""
    pairing_port: int | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """What the gateway of this node measured at the last answer of an instance."""

    instance: str
    tokens_per_s: float
    ttft_ms: float
    """Milliseconds to the first token."""
    epoch: Epoch | None = None
    """Of the placement that gave the answer; None from a daemon that does not tell it yet."""

    def is_of(self, instance: Instance) -> bool:
        """Whether this is the speed of that very placement: another one of the same model may be quicker or slower."""
        return (self.instance, self.epoch) == (instance.id, instance.epoch)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """All that this node shows of its mesh. `apply` gives the next one; members, links and speeds stand in order."""

    node: str
    """This node's id; it is a member too."""
    mesh: str
    leader: str | None = None
    ballot: Ballot | None = None
    """Under which it leads."""
    members: tuple[ClusterMember, ...] = ()
    """By id."""
    neighbours: tuple[Neighbour, ...] = ()
    links: tuple[ClusterLink, ...] = ()
    """By their ends."""
    instances: tuple[Instance, ...] = ()
    speeds: tuple[Speed, ...] = ()
    """By instance; only of placements that there are."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what no daemon shows: a state may come from outside."""
        sizes = (
            len(self.members) <= MEMBERS_MAX,
            len(self.neighbours) <= NEIGHBOURS_MAX,
            len(self.links) <= LINKS_MAX,
            len(self.instances) <= INSTANCES_MAX,
        )
        orders = (
            _ascends(member.id for member in self.members),
            _ascends(link.ends for link in self.links),
            _ascends(speed.instance for speed in self.speeds),
        )
        if not all((*sizes, *orders)):
            raise ValueError("a cluster that is too large or out of order")

    def member(self, node: str) -> ClusterMember | None:
        """The member with this id."""
        return next((member for member in self.members if member.id == node), None)

    def name_of(self, node: str) -> str:
        """The name of a node for people; its id where no name is known."""
        found = self.member(node)
        return (found.name if found else "") or node

    def held(self, instance: Instance) -> dict[int, HeldStage]:
        """What the nodes of an instance said last of its stages, by stage number."""
        told = ((number, self.held_stage(instance, number)) for number in range(len(instance.stages)))
        return {number: stage for number, stage in told if stage is not None}

    def held_stage(self, instance: Instance, number: int) -> HeldStage | None:
        """The same of one stage; None if its node said nothing of it, or there is no such stage."""
        member = self.member(instance.stages[number].node) if 0 <= number < len(instance.stages) else None
        held = member.report.stages if member is not None and member.report is not None else ()
        key = (instance.id, instance.epoch, number)
        return next((stage for stage in held if (stage.instance, stage.epoch, stage.stage) == key), None)

    def loading_share(self, instance: Instance) -> float:
        """Share of an instance's loading that is done, 0 … 1, as far as its nodes told."""
        held = self.held(instance).values()
        done = sum(1.0 if stage.state == "ready" else min(1.0, stage.progress) for stage in held)
        return done / max(1, len(instance.stages))

    def speed(self, instance: str) -> Speed | None:
        """What was measured of an instance in one of its epochs; None before its first answer."""
        return next((speed for speed in self.speeds if speed.instance == instance), None)


def _ascends(keys: Iterable[Any]) -> bool:
    return all(before < after for before, after in pairwise(keys))
