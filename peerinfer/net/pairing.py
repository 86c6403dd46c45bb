"""The door of an invitation: a listener on a port of its own that exists only while the window is open.

Who knows the code is admitted at once, or, where the inviting side wants to be asked, by `answer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peerinfer import clock as clocks
from peerinfer.errors import BadFrame, PairingError, PortInUse
from peerinfer.identity.authority import CertificateRequest
from peerinfer.identity.exchange import ENTROPY_BYTES
from peerinfer.identity.invitation import SECRET_BYTES, Invitation
from peerinfer.identity.keys import NodeId, node_id_of
from peerinfer.identity.pairing import (
    SESSION_S,
    WINDOW_S,
    AskAdmission,
    CloseWindow,
    HangUp,
    HostEffect,
    HostPairing,
    Outcome,
    Reply,
    WithdrawQuestion,
)
from peerinfer.identity.pairing_messages import TRIES_MAX, Refusal
from peerinfer.identity.storage import Identity
from peerinfer.names import clean_name
from peerinfer.net.interfaces import reachable_host
from peerinfer.net.pairing_tls import host_context
from peerinfer.net.pairing_wire import HOST_READS_MAX_BYTES, read_message, write_message

CONNECTIONS_MAX: Final = 4
"""At once, handshakes included: one that pairs, and a few whose digits or patience failed."""
CONNECTIONS_PER_S: Final = 8
"""A handshake costs about a millisecond; a person makes one."""
HANDSHAKE_S: Final = 5.0
GOODBYE_S: Final = 5.0
"""For the last bytes to leave; the largest admission takes a second on slow Wi-Fi."""
TICK_S: Final = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody knows the code and waits to be let in."""

    node_id: NodeId
    name: str
    """As it calls itself, cleaned; may be empty."""


QuestionHandler = Callable[[Question | None], None]
"""Told who waits; None once that one waits no longer."""


class PairingHost:
    """One open invitation. Ends by itself: somebody joined, time is up, or three tries were wrong."""

    def __init__(
        self, identity: Identity, listener: socket.socket, clock: clocks.Clock, window_s: float, *, confirm: bool
    ) -> None:
        """Use `open`."""
        self._invitation = Invitation.of(secrets.randbelow(10**6), secrets.token_bytes(SECRET_BYTES))
        entropy = tuple(secrets.token_bytes(ENTROPY_BYTES) for _ in range(TRIES_MAX))
        self._context, host_key = host_context(identity.mesh_id)
        self.expires_at = clock() + window_s
        """On the clock that was handed in, seconds."""
        self._machine = HostPairing(
            self._invitation, host_key, identity.mesh_id, entropy, self.expires_at, asks_person=confirm
        )
        self._confirm = confirm
        self._waiting: tuple[int, CertificateRequest] | None = None
        """The connection that is asked about, and what it wants."""
        self._tell: QuestionHandler = lambda _: None
        self._identity = identity
        self._listener = listener
        self._port: int = listener.getsockname()[1]
        self._clock = clock
        self._addresses: tuple[str, ...] = ()
        self._shown_host = ""
        self._ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._limits: dict[int, asyncio.Timeout] = {}
        """How long each connection may last."""
        self._numbers = itertools.count(1)
        self._accepted: deque[float] = deque(maxlen=CONNECTIONS_PER_S)
        self._connections: set[asyncio.Task[None]] = set()
        self._greeting: dict[int, asyncio.Task[None]] = {}
        """Those of the connections that have not finished the TLS handshake."""
        self._tasks = (asyncio.create_task(self._accept()), asyncio.create_task(self._watch()))

    @classmethod
    async def open(
        cls,
        identity: Identity,
        bind_host: str,
        port: int = 0,
        *,
        clock: clocks.Clock = clocks.monotonic,
        window_s: float = WINDOW_S,
        addresses: tuple[str, ...] = (),
        shown_host: str = "",
        confirm: bool = False,
    ) -> PairingHost:
        """Opens the window. Raises `PortInUse`.

        `addresses`: where the newcomer finds members, this node first; `:8643` is that port on this host.
        `shown_host`: the host in the URI; else the one bound to, or for a wildcard the address of the default route.
        `confirm`: who knows the code is let in by `answer` only.
        """
        family = socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        try:
            listener = socket.create_server((bind_host, port), family=family, backlog=CONNECTIONS_MAX)
        except OSError as error:
            raise PortInUse(
                f"The invitation cannot listen on {bind_host} port {port} ({error.strerror}). Try another port."
            ) from None
        listener.setblocking(False)
        host = cls(identity, listener, clock, window_s, confirm=confirm)
        host._addresses = addresses
        host._shown_host = shown_host or reachable_host(bind_host)
        return host

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def code(self) -> str:
        """Six digits to read out: `482-913`."""
        return self._invitation.code

    @property
    def uri(self) -> str:
        """A link to scan or paste, with the 128-bit secret and the address in it."""
        return self._invitation.uri(self._shown_host, self.port, self._identity.mesh_id)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while the window is open."""
        return self._machine.outcome

    @property
    def tries_left(self) -> int:
        """Guesses that remain."""
        return self._machine.tries_left

    @property
    def question(self) -> Question | None:
        """Who waits for `answer`."""
        if self._waiting is None:
            return None
        request = self._waiting[1]
        return Question(node_id_of(request.public_key), clean_name(request.name))

    def on_question(self, tell: QuestionHandler) -> None:
        """Has `tell` called with every question from now on, and with one that is open already."""
        self._tell = tell
        if self.question is not None:
            tell(self.question)

    def answer(self, node_id: NodeId, accept: bool) -> Question:
        """Lets in, or does not, who waits. Raises `PairingError` if that is not `node_id`, or cannot be let in."""
        question, waiting = self.question, self._waiting
        if question is None or waiting is None or question.node_id != node_id:
            raise PairingError("That machine does not wait to be let in: it has given up, or the invitation has ended.")
        self._waiting = None
        number, request = waiting
        if not accept:
            self._perform(self._machine.decline(number, Refusal.DECLINED))
        elif trouble := self._admit(number, request):
            raise PairingError(f"That machine cannot be let in: {trouble}")
        return question

    async def finished(self) -> Outcome:
        """Waits for the end, and until what was said last has left."""
        outcome = await asyncio.shield(self._ended)
        if self._connections:
            await asyncio.wait(self._connections, timeout=GOODBYE_S)
        return outcome

    async def close(self) -> None:
        """Ends the invitation, if it has not ended, and every connection of it."""
        self._perform(self._machine.cancel())
        await self.finished()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, *self._tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except asyncio.CancelledError:
                self._listener.close()  # not before: the loop still watched it
                raise
            except OSError as error:
                log.warning("An incoming pairing connection was not accepted: %s", error)
                await asyncio.sleep(TICK_S)
                continue
            if len(self._connections) >= CONNECTIONS_MAX or not self._is_calm():
                connection.close()
                continue
            number = next(self._numbers)
            task = asyncio.create_task(self._serve(number, connection))
            self._connections.add(task)
            self._greeting[number] = task
            task.add_done_callback(self._connections.discard)

    def _is_calm(self) -> bool:
        """Whether another connection keeps to the rate; counts it."""
        now = clocks.monotonic()
        if len(self._accepted) == CONNECTIONS_PER_S and now - self._accepted[0] < 1.0:
            return False
        self._accepted.append(now)
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._perform(self._machine.tick(self._clock()))

    async def _serve(self, number: int, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(SESSION_S) as self._limits[number]:
                reader, writer = await self._greet(connection)
                self._greeting.pop(number)
                self._writers[number] = writer
                await self._talk(number, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("A pairing connection ended: %s", type(error).__name__)
        finally:
            self._greeting.pop(number, None)
            self._limits.pop(number, None)
            self._perform(self._machine.lost(number))
            await self._part(number)

    async def _greet(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TLS over an accepted socket, so that handshakes count as connections. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _talk(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            try:
                said = await read_message(reader, HOST_READS_MAX_BYTES)
            except BadFrame:
                said = None  # the machine refuses what is no message
            self._perform(self._machine.receive(number, said, self._clock()))
            await writer.drain()

    async def _part(self, number: int) -> None:
        writer = self._writers.pop(number, None)
        if writer is None:
            return
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await writer.wait_closed()

    def _perform(self, effects: tuple[HostEffect, ...]) -> None:
        for effect in effects:
            match effect:
                case Reply():
                    self._say(effect)
                case HangUp():
                    self._hang_up(effect.connection)
                case AskAdmission() if self._confirm:
                    self._ask(effect.connection, effect.request)
                case AskAdmission():
                    self._admit(effect.connection, effect.request)
                case WithdrawQuestion():
                    self._withdraw(effect.connection)
                case CloseWindow():
                    self._shut(effect.outcome)

    def _say(self, reply: Reply) -> None:
        writer = self._writers.get(reply.connection)
        if writer is not None and not writer.is_closing():
            write_message(writer, reply.message)

    def _hang_up(self, number: int) -> None:
        writer = self._writers.get(number)
        if writer is not None:
            writer.close()

    def _ask(self, number: int, request: CertificateRequest) -> None:
        self._waiting = number, request
        if limit := self._limits.get(number):  # the machine ends it with the window; then its goodbye must leave
            limit.reschedule(asyncio.get_running_loop().time() + self.expires_at - self._clock() + GOODBYE_S)
        self._tell(self.question)

    def _withdraw(self, number: int) -> None:
        if self._waiting is not None and self._waiting[0] == number:
            self._waiting = None
            self._tell(None)

    def _admit(self, number: int, request: CertificateRequest) -> str:
        """Returns why it could not; empty if it did."""
        try:
            admission = self._identity.admit(request, self._addresses).to_bytes()
        except (PairingError, ValueError, OSError) as error:
            log.warning("A node that knew the code was not admitted: %s", error)
            self._perform(self._machine.decline(number))
            return str(error)
        self._perform(self._machine.admit(number, admission))
        return ""

    def _shut(self, outcome: Outcome) -> None:
        for task in (*self._tasks, *self._greeting.values()):
            task.cancel()
        for number in tuple(self._writers):
            self._hang_up(number)
        self._ended.set_result(outcome)
