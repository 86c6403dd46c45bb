"""What gateway, first stage and last stage say to each other. Tokens are ids; text never leaves the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.engine.base import Sampling
from peerinfer.net.frames import Epoch
from peerinfer.net.messages import Tag, message


@message(Tag.SUBMIT)
@dataclass(frozen=True, slots=True)
class Submit:
    """Gateway → first stage: run this prompt."""

    request_id: str
    instance: str
    epoch: Epoch
    prompt: bytes
    """Token ids, int32 little-endian."""
    max_tokens: int
    sampling: Sampling
    end_tokens: tuple[int, ...]
    credits: int
    """Tokens that the gateway can take before it grants more."""


@message(Tag.CREDIT)
@dataclass(frozen=True, slots=True)
class Credit:
    """Gateway → first stage: `tokens` more may be produced."""

    request_id: str
    instance: str
    tokens: int


@message(Tag.STOP)
@dataclass(frozen=True, slots=True)
class Stop:
    """Gateway → first stage: nothing more is wanted (stop string found, client gone, time-out)."""

    request_id: str
    instance: str


@message(Tag.TOKENS)
@dataclass(frozen=True, slots=True)
class Token:
    """Last stage → gateway: token number `index` of the answer."""

    request_id: str
    index: int
    token: int
    finish: str


@message(Tag.ENDED)
@dataclass(frozen=True, slots=True)
class Ended:
    """First stage → gateway: the request ends without another token."""

    request_id: str
    code: str
    """An error code of `errors.py`, or `cancelled`."""
    reason: str
    """A sentence for a person."""


@dataclass(frozen=True, slots=True)
class SampledRow:
    """One result of a step, as the first stage needs it."""

    slot: int
    generation: int
    token: int
    finish: str


@message(Tag.STEP_DONE)
@dataclass(frozen=True, slots=True)
class StepDone:
    """Last stage → first stage: the step went round; these rows were sampled."""

    instance: str
    epoch: Epoch
    step: int
    rows: tuple[SampledRow, ...]


@message(Tag.STEP_TROUBLE)
@dataclass(frozen=True, slots=True)
class StepTrouble:
    """Any stage → first stage: the step could not be run; its rows have no result."""

    instance: str
    epoch: Epoch
    step: int
    stage: int
    code: str
    """`desync`, `engine_died`, `engine_error`, `link_down` or `wrong_epoch`."""
    reason: str
