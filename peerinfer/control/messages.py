"""What leader, workers and those who ask say to each other. Commands carry the ballot that fences them."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.control.state import INSTANCES_MAX, MEMBERS_MAX, Instance
from peerinfer.election.ballot import Ballot
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import Tag, message

HELD_MAX = 256
"""Stages on one node: far more than fit it."""
STATEMENTS_MAX = 256
"""As many as a book holds."""


@message(Tag.LOAD_REQUEST)
@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Any node → leader: somebody wants this model loaded."""

    request_id: str
    model: str
    digest: str
    context: int
    slots: int
    policy: str
    min_nodes: int
    stages: tuple[tuple[str, int, int], ...] = ()
    """(node id or name, first layer, last layer) where a person fixed the stages; else empty."""


@message(Tag.UNLOAD_REQUEST)
@dataclass(frozen=True, slots=True)
class UnloadRequest:
    """Any node → leader: this model is no longer wanted."""

    request_id: str
    model: str
    is_repeated: bool = False
    """Whether it was said before and not answered: then that it is not loaded any more is no error."""


@message(Tag.REQUEST_REPLY)
@dataclass(frozen=True, slots=True)
class RequestReply:
    """Leader → asker: how it went. `code` is empty on success, else an error code of `errors.py`."""

    request_id: str
    code: str
    reason: str
    instance: str = ""
    intent: bytes = b""
    """What was acknowledged, signed: so the asker knows it too, should the leader die in this moment."""


@message(Tag.LOAD_STAGE)
@dataclass(frozen=True, slots=True)
class LoadStage:
    """Leader → worker: hold stage number `stage` of `instance`."""

    ballot: Ballot
    version: int
    instance: Instance
    stage: int


@message(Tag.DROP_STAGE)
@dataclass(frozen=True, slots=True)
class DropStage:
    """Leader → worker: let go of whatever you hold of this instance and epoch."""

    ballot: Ballot
    version: int
    instance: str
    epoch: Epoch


@message(Tag.STAGE_REPORT)
@dataclass(frozen=True, slots=True)
class StageReport:
    """Worker → leader: the state of a stage: `loading`, `ready`, `failed` or `dropped`."""

    instance: str
    epoch: Epoch
    stage: int
    state: str
    reason: str = ""
    progress: float = 0.0
    """Share of the loading that is done, 0 … 1."""


@dataclass(frozen=True, slots=True)
class HeldPart:
    """A stage that a worker holds."""

    instance: Instance
    stage: int
    state: str
    reason: str = ""
    progress: float = 0.0


@message(Tag.STAGES_HELD)
@dataclass(frozen=True, slots=True)
class StagesHeld:
    """Worker → its leader, when it begins to follow or the link is new: this is all that I hold."""

    ballot: Ballot
    parts: tuple[HeldPart, ...]
    version: int = 0
    """Of the last command of this ballot that it obeyed: what was commanded later is not missing."""

    def __post_init__(self) -> None:
        if len(self.parts) > HELD_MAX:
            raise ValueError("too many stages on one node")


@message(Tag.INTENTS)
@dataclass(frozen=True, slots=True)
class Intents:
    """Any node → any node: signed statements of what is wanted (`control/intents.py`)."""

    statements: tuple[bytes, ...]
    """Taken in by whom they are new to."""
    answer: bool = False
    """Whether the sender asks for what the receiver knows better."""

    def __post_init__(self) -> None:
        if len(self.statements) > STATEMENTS_MAX:
            raise ValueError("too many intents in one message")


@message(Tag.INTENTS_DIGEST)
@dataclass(frozen=True, slots=True)
class IntentsDigest:
    """Any node → any node: what I know hashes to this; tell me if you know anything else."""

    fingerprint: bytes


@message(Tag.INSTANCES)
@dataclass(frozen=True, slots=True)
class Instances:
    """Leader → everybody: all instances as they stand. Newer (ballot, version) replaces older."""

    ballot: Ballot
    version: int
    instances: tuple[Instance, ...]
    asking: tuple[str, ...] = ()
    """Workers that shall tell once more what they hold."""

    def __post_init__(self) -> None:
        if len(self.instances) > INSTANCES_MAX or len(self.asking) > MEMBERS_MAX:
            raise ValueError("too many instances in one list")
        if len({(one.id, one.epoch) for one in self.instances}) != len(self.instances):
            raise ValueError("an instance that is listed twice")
