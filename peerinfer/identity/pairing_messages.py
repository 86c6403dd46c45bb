"""What host and joiner say to each other while they pair. Pure; `peerinfer.net.pairing_wire` gives them their tags."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from peerinfer.errors import InviteExpired, PairingBusy, PairingError, WrongDigits

TRIES_MAX = 3
"""Guesses per window: a chance of 3 in a million."""


class Refusal(enum.StrEnum):
    """Why the host says no."""

    BUSY = "busy"
    EXPIRED = "expired"
    WRONG_CODE = "wrong_code"
    BAD_MESSAGE = "bad_message"
    TOO_SLOW = "too_slow"
    NOT_ADMITTED = "not_admitted"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class PairingStart:
    """Joiner → host."""

    public_key: bytes
    by_secret: bool
    """Whether the password is the URI's secret, not the digits."""
    element: bytes


@dataclass(frozen=True, slots=True)
class PairingAnswer:
    """Host → joiner."""

    element: bytes


@dataclass(frozen=True, slots=True)
class PairingConfirm:
    """Joiner → host: the first proof of the code, and a `CertificateRequest`, sealed."""

    confirmation: bytes
    sealed_request: bytes


@dataclass(frozen=True, slots=True)
class PairingAdmit:
    """Host → joiner: its own proof of the code, and an `Admission`, sealed."""

    confirmation: bytes
    sealed_admission: bytes


@dataclass(frozen=True, slots=True)
class PairingRefused:
    """Host → joiner: this session is over."""

    reason: Refusal
    tries_left: int


PairingMessage = PairingStart | PairingAnswer | PairingConfirm | PairingAdmit | PairingRefused


def error_of(message: PairingRefused) -> PairingError:
    """What a refusal means to the person at the joiner."""
    left = min(max(message.tries_left, 0), TRIES_MAX)
    match message.reason:
        case Refusal.BUSY:
            return PairingBusy("Another machine is pairing with this invitation at the moment; try again shortly.")
        case Refusal.EXPIRED:
            return InviteExpired("The invitation has expired; run `peerinfer invite` again on the other machine.")
        case Refusal.WRONG_CODE if left:
            return WrongDigits(f"The code does not match; {left} {'try is' if left == 1 else 'tries are'} left.")
        case Refusal.WRONG_CODE:
            return WrongDigits(
                "The code does not match, and no try is left; run `peerinfer invite` again on the other machine."
            )
        case Refusal.NOT_ADMITTED:
            return PairingError(
                "The mesh cannot take this node: it is full, or this node was removed from it and must "
                "first run `peerinfer leave`, which gives it a new key."
            )
        case Refusal.DECLINED:
            return PairingError("The other machine's owner did not let this one in.")
        case Refusal.TOO_SLOW:
            return PairingError("The pairing took too long and was broken off; try again.")
        case Refusal.BAD_MESSAGE:
            return PairingError("The other machine did not understand this one; use the same version on both.")
