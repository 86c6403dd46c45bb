"""The pairing exchange as two pure machines: the host of an invitation, and the joiner.

    joiner                                                    host
    Start   public key, which code, SPAKE2 element  ──►
            ◄──  Answer   SPAKE2 element                      (the try counts from here)
    Confirm HMAC, sealed certificate request        ──►       (only who knows the code comes past here)
            ◄──  Admit    HMAC, sealed admission              (the window closes)

`Refused` may come instead of any answer. A try counts when the host's element leaves, whatever happens then, so
parallel or broken-off guesses gain nothing. A host may ask its person before `Admit`; the session then lasts until the
answer, and at most as long as the window. Each call returns its effects in the order in which they must happen.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from peerinfer.errors import PairingError
from peerinfer.identity.authority import CertificateRequest
from peerinfer.identity.exchange import Exchange, PairingKeys, Side, host_binding
from peerinfer.identity.invitation import Invitation, JoinCode
from peerinfer.identity.keys import PUBLIC_KEY_BYTES, NodeId, node_id_of
from peerinfer.identity.pairing_messages import (
    TRIES_MAX,
    PairingAdmit,
    PairingAnswer,
    PairingConfirm,
    PairingMessage,
    PairingRefused,
    PairingStart,
    Refusal,
    error_of,
)
from peerinfer.identity.roster import clean_name

WINDOW_S = 120.0
"""Time to walk to the other machine and type six digits."""
SESSION_S = 10.0
"""One session until the code is proven: no person is involved, two round trips and some arithmetic are all it takes."""


class Ending(enum.StrEnum):
    """How an invitation ended."""

    JOINED = "joined"
    EXPIRED = "expired"
    TRIES_USED_UP = "tries_used_up"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invitation ended, and who joined, if somebody did."""

    ending: Ending
    node_id: NodeId = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """Effect: send `message` to the joiner on `connection`."""

    connection: int
    message: PairingMessage


@dataclass(frozen=True, slots=True)
class HangUp:
    """Effect: close `connection` after what was sent."""

    connection: int


@dataclass(frozen=True, slots=True)
class AskAdmission:
    """Effect: the joiner knows the code; answer with `admit` or `decline`."""

    connection: int
    request: CertificateRequest


@dataclass(frozen=True, slots=True)
class WithdrawQuestion:
    """Effect: nobody waits for the answer to `AskAdmission` any more."""

    connection: int


@dataclass(frozen=True, slots=True)
class CloseWindow:
    """Effect: the invitation is over; the listener goes."""

    outcome: Outcome


HostEffect = Reply | HangUp | AskAdmission | WithdrawQuestion | CloseWindow


@dataclass(frozen=True, slots=True)
class _Session:
    connection: int
    public_key: bytes
    keys: PairingKeys
    deadline: float
    request: CertificateRequest | None = None
    """That of a joiner who has proven the code, until it is answered."""


class HostPairing:
    """One open invitation. `connection` is any number by which the door tells its connections apart."""

    def __init__(
        self,
        invitation: Invitation,
        host_key: bytes,
        mesh_id: str,
        entropy: tuple[bytes, ...],
        closes_at: float,
        *,
        asks_person: bool = False,
    ) -> None:
        """`host_key`: raw public key of the listener's certificate. `entropy`: 64 secret bytes for each try.

        `asks_person`: the answer to `AskAdmission` may take until `closes_at`, not only what is left of the session.
        """
        self._invitation = invitation
        self._binding = host_binding(host_key, mesh_id)
        self._mesh_id = mesh_id
        self._entropy = entropy[:TRIES_MAX]
        self._closes_at = closes_at
        self._asks_person = asks_person
        self._tries = 0
        self._session: _Session | None = None
        self.outcome: Outcome | None = None

    @property
    def tries_left(self) -> int:
        """Guesses that remain."""
        return len(self._entropy) - self._tries

    def tick(self, now: float) -> tuple[HostEffect, ...]:
        """Ends what has lasted too long: the session, then the window."""
        if self.outcome is not None:
            return ()
        if now >= self._closes_at:
            return self._end(Outcome(Ending.EXPIRED))
        if self._session is not None and now >= self._session.deadline:
            return self._refuse(self._session.connection, Refusal.TOO_SLOW)
        return ()

    def receive(self, connection: int, message: object, now: float) -> tuple[HostEffect, ...]:
        """Takes what a joiner said; `message` may be anything that was decoded from the wire."""
        due = self.tick(now)
        if self.outcome is not None:
            return (*due, *self._refuse(connection, Refusal.EXPIRED))
        match message:
            case PairingStart():
                return (*due, *self._start(connection, message, now))
            case PairingConfirm():
                return (*due, *self._confirm(connection, message))
            case _:
                return (*due, *self._refuse(connection, Refusal.BAD_MESSAGE))

    def lost(self, connection: int) -> tuple[HostEffect, ...]:
        """The connection is gone; a try that began on it stays counted."""
        return self._end_session(connection)

    def admit(self, connection: int, admission: bytes) -> tuple[HostEffect, ...]:
        """The answer to `AskAdmission`: seal and send `admission`, close the window."""
        session = self._session
        if session is None or session.connection != connection or session.request is None:
            return ()  # it timed out, or hung up, while the admission was made
        sealed = session.keys.seal(Side.HOST, admission)
        reply = PairingAdmit(session.keys.confirmation(Side.HOST, sealed), sealed)
        outcome = Outcome(Ending.JOINED, node_id_of(session.public_key), clean_name(session.request.name))
        return Reply(connection, reply), HangUp(connection), *self._close(outcome)

    def decline(self, connection: int, reason: Refusal = Refusal.NOT_ADMITTED) -> tuple[HostEffect, ...]:
        """The other answer to `AskAdmission`: the mesh cannot take this node, or its person does not want it."""
        session = self._session
        if session is None or session.connection != connection or session.request is None:
            return ()
        self._session = replace(session, request=None)
        return self._refuse(connection, reason)

    def cancel(self) -> tuple[HostEffect, ...]:
        """Ends the invitation because somebody wants it."""
        return self._end(Outcome(Ending.CANCELLED))

    def _start(self, connection: int, message: PairingStart, now: float) -> tuple[HostEffect, ...]:
        if self._session is not None:
            same = self._session.connection == connection
            return self._refuse(connection, Refusal.BAD_MESSAGE if same else Refusal.BUSY)
        if len(message.public_key) != PUBLIC_KEY_BYTES:
            return self._refuse(connection, Refusal.BAD_MESSAGE)
        password = self._invitation.password(message.by_secret)
        exchange = Exchange(Side.HOST, password, message.public_key, self._binding, self._entropy[self._tries])
        try:
            keys = exchange.finish(message.element)
        except ValueError:
            return self._refuse(connection, Refusal.BAD_MESSAGE)
        self._tries += 1
        self._session = _Session(connection, message.public_key, keys, now + SESSION_S)
        return (Reply(connection, PairingAnswer(exchange.element)),)

    def _confirm(self, connection: int, message: PairingConfirm) -> tuple[HostEffect, ...]:
        session = self._session
        if session is None or session.connection != connection or session.request is not None:
            return self._refuse(connection, Refusal.BAD_MESSAGE)
        if not session.keys.is_confirmed(Side.JOINER, message.sealed_request, message.confirmation):
            return self._refuse(connection, Refusal.WRONG_CODE)
        try:
            request = CertificateRequest.from_bytes(session.keys.unseal(Side.JOINER, message.sealed_request))
        except ValueError:
            return self._refuse(connection, Refusal.BAD_MESSAGE)
        if request.public_key != session.public_key or not request.is_proven(self._mesh_id):
            return self._refuse(connection, Refusal.BAD_MESSAGE)
        deadline = self._closes_at if self._asks_person else session.deadline
        self._session = _Session(connection, session.public_key, session.keys, deadline, request)
        return (AskAdmission(connection, request),)

    def _refuse(self, connection: int, reason: Refusal) -> tuple[HostEffect, ...]:
        return *self._refusal(connection, reason), *self._end_session(connection)

    def _refusal(self, connection: int, reason: Refusal) -> tuple[HostEffect, ...]:
        return Reply(connection, PairingRefused(reason, self.tries_left)), HangUp(connection)

    def _end_session(self, connection: int) -> tuple[HostEffect, ...]:
        session = self._session
        if session is None or session.connection != connection:
            return ()
        self._session = None
        withdrawn = _withdrawn(session)
        return withdrawn if self.tries_left else (*withdrawn, *self._close(Outcome(Ending.TRIES_USED_UP)))

    def _end(self, outcome: Outcome) -> tuple[HostEffect, ...]:
        """Closes the window and tells a joiner who is under way."""
        session = self._session
        if self.outcome is not None or session is None:
            return self._close(outcome)
        refusal = self._refusal(session.connection, Refusal.EXPIRED)
        return (*refusal, *_withdrawn(session), *self._close(outcome))

    def _close(self, outcome: Outcome) -> tuple[HostEffect, ...]:
        if self.outcome is not None:
            return ()
        self.outcome = outcome
        self._session = None
        return (CloseWindow(outcome),)


def _withdrawn(session: _Session) -> tuple[HostEffect, ...]:
    return () if session.request is None else (WithdrawQuestion(session.connection),)


@dataclass(frozen=True, slots=True)
class Say:
    """Effect: send `message` to the host."""

    message: PairingMessage


@dataclass(frozen=True, slots=True)
class Adopt:
    """Effect: the host has proven that it knows the code; `admission` is what it gives."""

    admission: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """Effect: this attempt is over; `error` says why."""

    error: PairingError


JoinerEffect = Say | Adopt | Fail


class JoinerPairing:
    """One attempt to join, on one connection."""

    def __init__(
        self, code: JoinCode, request: CertificateRequest, host_key: bytes, mesh_id: str, entropy: bytes
    ) -> None:
        """`host_key` and `mesh_id`: as the host's certificate shows them *on this connection*."""
        self._code = code
        self._request = request
        self._exchange = Exchange(
            Side.JOINER, code.password, request.public_key, host_binding(host_key, mesh_id), entropy
        )
        self._keys: PairingKeys | None = None
        self._over = False

    @property
    def awaits_admission(self) -> bool:
        """Whether this side has proven that it knows the code, so that a person there may have to answer."""
        return self._keys is not None and not self._over

    def start(self) -> tuple[JoinerEffect, ...]:
        """What to say first."""
        return (Say(PairingStart(self._request.public_key, self._code.by_secret, self._exchange.element)),)

    def receive(self, message: object) -> tuple[JoinerEffect, ...]:
        """Takes what the host said; `message` may be anything that was decoded from the wire."""
        if self._over:
            return ()
        match message:
            case PairingAnswer() if self._keys is None:
                return self._confirm(message)
            case PairingAdmit() if self._keys is not None:
                return self._adopt(message, self._keys)
            case PairingRefused():
                return self._fail(error_of(message))
            case _:
                return self._fail(PairingError("The other machine does not keep to the pairing protocol."))

    def _confirm(self, message: PairingAnswer) -> tuple[JoinerEffect, ...]:
        try:
            keys = self._exchange.finish(message.element)
        except ValueError:
            return self._fail(PairingError("The other machine does not keep to the pairing protocol."))
        self._keys = keys
        sealed = keys.seal(Side.JOINER, self._request.to_bytes())
        return (Say(PairingConfirm(keys.confirmation(Side.JOINER, sealed), sealed)),)

    def _adopt(self, message: PairingAdmit, keys: PairingKeys) -> tuple[JoinerEffect, ...]:
        try:
            if not keys.is_confirmed(Side.HOST, message.sealed_admission, message.confirmation):
                raise ValueError("no proof")
            admission = keys.unseal(Side.HOST, message.sealed_admission)
        except ValueError:
            return self._fail(PairingError("The other machine could not prove that it knows the code; nothing joined."))
        self._over = True
        return (Adopt(admission),)

    def _fail(self, error: PairingError) -> tuple[JoinerEffect, ...]:
        self._over = True
        return (Fail(error),)
