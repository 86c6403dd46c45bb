"""Every error a person or a program can meet, as one tree; a message says what happened and what to do.

PeerinferError
├── RequestError               the caller's request cannot be served as it is (HTTP 4xx)
│   ├── BadRequest             malformed or unsupported (400)
│   │   └── BadParameter       one parameter of it, named in `param`
│   ├── UnknownModel           no model of that name here (404)
│   ├── ContextExceeded        prompt and answer do not fit the context (413)
│   └── QueueFull              too many requests wait already; try again soon (429)
├── Unavailable                the mesh cannot serve this now; a retry may succeed (503)
│   ├── NoPlacement            no split of the model fits the nodes that are here
│   ├── StageLost              a stage died or lost its state under a request
│   └── NoLeader               nobody leads the mesh at the moment
├── ModelError                 a model file is not what it should be
│   ├── CorruptModel           truncated, malformed or hostile file
│   └── UnsupportedModel       a valid file that cannot be run, or not be split, here
├── PullFailed                 a model could not be fetched: the network, the server or its limits; try again
│   └── AccessDenied           the server wants a token, or an accepted licence, first
├── EngineError                an engine failed
│   ├── EngineDied             its process ended
│   └── Desync                 a frame does not continue what the stage holds
├── ProcessError               a child process failed, timed out or broke its pipe protocol
│   └── ChildDied              it ended, or its pipe closed
├── LinkError                  a link between peers failed
│   ├── LinkDown               no live link to that peer
│   ├── DuplicateLink          the two nodes have another link already
│   ├── ProtocolMismatch       the peer speaks another protocol version
│   ├── NotTrusted             the peer is not a member of this mesh
│   ├── OutdatedCertificate    one end's certificate is not of the mesh's CA of today; dial again
│   └── BadFrame               bytes that are not a valid frame or message
├── PairingError               an invitation, a join or a removal failed
│   ├── WrongDigits            the six digits do not match
│   ├── InviteExpired          the invitation window is closed
│   ├── PairingBusy            another pairing is under way
│   └── RotationsUsedUp        the mesh's CA was changed as often as it can be
└── HomeError                  this node's own folder, ports or configuration are not usable
    ├── HomeInUse              another daemon runs on this home
    ├── HomeNotOurs            the home directory belongs to somebody else
    ├── PortInUse              a port that should be listened on is taken
    ├── DaemonAbsent           no daemon runs on this home
    ├── DiskFull               no room on the disk for what must be written
    └── ConfigInvalid          a setting has no usable value
"""

from __future__ import annotations

from typing import ClassVar


class PeerinferError(Exception):
    """Root of the tree. `str(error)` is a sentence for a person.

    `status` is the HTTP status that reports it; `code` is a stable word for programs;
    `retryable` says whether the same request may succeed if sent again unchanged.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False


class RequestError(PeerinferError):
    """The caller's request cannot be served as it is."""

    status = 400
    code = "bad_request"


class BadRequest(RequestError):
    """Malformed or unsupported request."""


class BadParameter(BadRequest):
    """One parameter of the request is malformed or unsupported; `param` is its name."""

    code = "bad_parameter"

    def __init__(self, param: str, sentence: str) -> None:
        super().__init__(sentence)
        self.param = param


class UnknownModel(RequestError):
    """No model of that name is known here."""

    status = 404
    code = "model_not_found"


class ContextExceeded(RequestError):
    """Prompt and requested answer do not fit the model's context."""

    status = 413
    code = "context_length_exceeded"


class QueueFull(RequestError):
    """Too many requests wait already."""

    status = 429
    code = "queue_full"
    retryable = True


class Unavailable(PeerinferError):
    """The mesh cannot serve this at the moment."""

    status = 503
    code = "unavailable"
    retryable = True


class NoPlacement(Unavailable):
    """No split of the model fits the nodes that are here."""

    code = "no_placement"
    retryable = False


class StageLost(Unavailable):
    """A stage died, or lost its state, under a request."""

    code = "stage_lost"


class NoLeader(Unavailable):
    """Nobody leads the mesh at the moment."""

    code = "no_leader"


class ModelError(PeerinferError):
    """A model file is not what it should be."""

    status = 422
    code = "model_error"


class CorruptModel(ModelError):
    """Truncated, malformed or hostile model file."""

    code = "corrupt_model"


class UnsupportedModel(ModelError):
    """A valid model file that cannot be run, or cannot be split, here."""

    code = "unsupported_model"


class PullFailed(PeerinferError):
    """A model could not be fetched now: the network, the server, or the server's limits. What came is kept."""

    status = 502
    code = "pull_failed"
    retryable = True


class AccessDenied(PullFailed):
    """The server wants a token, or that its licence be accepted, before it hands out the model."""

    status = 403
    code = "access_denied"
    retryable = False


class EngineError(PeerinferError):
    """An engine failed."""

    code = "engine_error"


class EngineDied(EngineError):
    """The process of an engine ended."""

    code = "engine_died"
    retryable = True


class Desync(EngineError):
    """A frame does not continue what the stage holds for its slot."""

    code = "desync"
    retryable = True


class ProcessError(PeerinferError):
    """A child process failed, timed out or broke its pipe protocol."""

    code = "process_error"


class ChildDied(ProcessError):
    """A child process ended, or its pipe closed."""

    code = "child_died"


class LinkError(PeerinferError):
    """A link between peers failed."""

    status = 503
    code = "link_error"


class LinkDown(LinkError):
    """There is no live link to that peer."""

    code = "link_down"
    retryable = True


class DuplicateLink(LinkError):
    """The two nodes have, or are making, another link."""

    code = "duplicate_link"


class ProtocolMismatch(LinkError):
    """The peer speaks another protocol version."""

    code = "protocol_mismatch"


class NotTrusted(LinkError):
    """The peer is not a member of this mesh."""

    status = 403
    code = "not_trusted"


class OutdatedCertificate(LinkError):
    """One end's certificate is of another generation of the mesh's CA; the two have told each other theirs."""

    code = "outdated_certificate"
    retryable = True


class BadFrame(LinkError):
    """Bytes that are not a valid frame or message."""

    status = 400
    code = "bad_frame"


class PairingError(PeerinferError):
    """An invitation, a join or a removal failed."""

    status = 409
    code = "pairing_failed"


class WrongDigits(PairingError):
    """The six digits do not match."""

    status = 403
    code = "wrong_digits"


class InviteExpired(PairingError):
    """The invitation window is closed."""

    status = 410
    code = "invite_expired"


class PairingBusy(PairingError):
    """Another pairing is under way."""

    code = "pairing_busy"
    retryable = True


class RotationsUsedUp(PairingError):
    """The mesh's CA was changed as often as it can be."""

    code = "rotations_used_up"


class HomeError(PeerinferError):
    """This node's own folder, ports or configuration are not usable."""

    code = "home_error"


class HomeInUse(HomeError):
    """Another daemon runs on this home."""

    code = "home_in_use"


class HomeNotOurs(HomeError):
    """The home directory belongs to somebody else."""

    code = "home_not_ours"


class PortInUse(HomeError):
    """A port that should be listened on is taken."""

    code = "port_in_use"


class DaemonAbsent(HomeError):
    """No daemon runs on this home."""

    code = "daemon_absent"


class DiskFull(HomeError):
    """The disk has no room for what must be written."""

    status = 507
    code = "disk_full"


class ConfigInvalid(HomeError):
    """A setting has no usable value."""

    status = 400
    code = "config_invalid"


def error_from_code(code: str, sentence: str) -> PeerinferError:
    """The error that another process told of by its `code`; the root of the tree for a code that is not known."""
    if code == BadParameter.code:
        return BadParameter("", sentence)
    waiting: list[type[PeerinferError]] = [PeerinferError]
    for kind in waiting:
        if kind.code == code:
            return kind(sentence)
        waiting.extend(kind.__subclasses__())
    return PeerinferError(sentence)
