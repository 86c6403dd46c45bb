"""What the control machines ask of their door, in order, and what they tell it happened."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.control.messages import Instances, Intents
from peerinfer.control.state import Instance
from peerinfer.election.effects import LeaderChanged, SaveBallot
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch
from peerinfer.placement.problem import Problem


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send `message` to every connected peer (this node knows it already)."""

    message: Instances | Intents


@dataclass(frozen=True, slots=True)
class SaveIntents:
    """Put all intents on disk, synced, before anything that follows: a reply acknowledges one."""

    statements: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StageAssignment:
    """This node shall hold stage number `stage` of `instance`."""

    instance: Instance
    stage: int


@dataclass(frozen=True, slots=True)
class StartStage:
    """Begin to hold a stage."""

    assignment: StageAssignment


@dataclass(frozen=True, slots=True)
class StopStage:
    """Let go of whatever is held of this instance and epoch."""

    instance: str
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class SolvePlacement:
    """Have the solver look at a problem, in the background, and hand in its plan under this number."""

    number: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class Answered:
    """A request of this node got its reply. `code` is empty on success."""

    request_id: str
    code: str
    reason: str
    instance: str


@dataclass(frozen=True, slots=True)
class InstancesChanged:
    """The instances of the mesh as this node knows them now."""

    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class InstanceBecameReady:
    """An instance, or a new epoch of it, takes requests from now on."""

    instance: Instance


Effect = (
    SaveBallot
    | SaveIntents
    | SendTo
    | Broadcast
    | StartStage
    | StopStage
    | SolvePlacement
    | Answered
    | LeaderChanged
    | InstancesChanged
    | InstanceBecameReady
)
Effects = tuple[Effect, ...]
