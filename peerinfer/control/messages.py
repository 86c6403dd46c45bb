"""What leader, workers and those who ask say to each other. Commands carry the ballot that fences them."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.control.state import Instance
from peerinfer.election.ballot import Ballot
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import Tag, message


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


@message(Tag.REQUEST_REPLY)
@dataclass(frozen=True, slots=True)
class RequestReply:
    """Leader → asker: how it went. `code` is empty on success, else an error code of `errors.py`."""

    request_id: str
    code: str
    reason: str
    instance: str = ""


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


@message(Tag.INSTANCES)
@dataclass(frozen=True, slots=True)
class Instances:
    """Leader → everybody: all instances as they stand. Newer (ballot, version) replaces older."""

    ballot: Ballot
    version: int
    instances: tuple[Instance, ...]
