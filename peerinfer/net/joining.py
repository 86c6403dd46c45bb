"""The door of a joiner: one attempt to join the mesh whose invitation is open at an address."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from peerinfer.errors import BadFrame, InviteExpired, PairingError
from peerinfer.identity.admission import Admission
from peerinfer.identity.exchange import ENTROPY_BYTES
from peerinfer.identity.invitation import JoinCode, read_code
from peerinfer.identity.pairing import WINDOW_S, Adopt, Fail, JoinerEffect, JoinerPairing, Say
from peerinfer.identity.storage import Identity
from peerinfer.net.address import join_address
from peerinfer.net.pairing_tls import host_seen, joiner_context
from peerinfer.net.pairing_wire import JOINER_READS_MAX_BYTES, read_message, write_message

JOIN_TIMEOUT_S = 15.0
"""Until the code is proven. The host ends such a session after 10 s; the rest is for reaching it."""
ASKED_S = 2.0
"""A host that asks nobody has answered by then: the largest admission takes a second on slow Wi-Fi."""
_GOODBYE_S = 1.0
"""For the end of TLS: nothing that matters is said after the admission."""
_SERVER_NAME = "peerinfer"
"""The name in the TLS greeting, readable on the wire: the same for all."""


@dataclass(frozen=True, slots=True)
class JoinResult:
    """Where this node is now."""

    mesh_id: str
    members: int
    """Itself included."""
    addresses: tuple[str, ...]
    """`host:port` of members to dial, the inviter first."""


class _Patience:
    """How long the other machine may take: until the code is proven, and then as long as a person there may."""

    def __init__(self, limit: asyncio.Timeout, asked: Callable[[], None]) -> None:
        self._limit = limit
        self._asked = asked
        self._telling: asyncio.TimerHandle | None = None

    @property
    def is_for_a_person(self) -> bool:
        """Whether the code is proven."""
        return self._telling is not None

    def extend(self) -> None:
        """The code is proven; a second call does nothing."""
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._limit.reschedule(loop.time() + WINDOW_S)  # the window there is open for less, and tells its end
            self._telling = loop.call_later(ASKED_S, self._asked)

    def end(self) -> None:
        """An answer came, or is not waited for any more."""
        if self._telling is not None:
            self._telling.cancel()


async def join(
    identity: Identity,
    host: str,
    port: int,
    code: str,
    *,
    name: str = "",
    timeout_s: float = JOIN_TIMEOUT_S,
    asked: Callable[[], None] = lambda: None,
) -> JoinResult:
    """Joins with six digits, or with the URI (whose address counts if `host` is empty), and adopts what is given.

    `timeout_s` is for reaching the host and proving the code; `asked` is called once, if a person there seems to be
    asked. On return the new membership is on disk. Raises `PairingError` (`WrongDigits`, `InviteExpired`,
    `PairingBusy`) with a sentence for the person; nothing has changed here then.
    """
    identity.check_alone()
    read = read_code(code)
    host, port = (host, port) if host else (read.host, read.port)
    if not host:
        raise PairingError("The six digits say nothing of where to join; name the other machine with --host HOST:PORT.")
    where = join_address(host, port)
    limit = asyncio.timeout(timeout_s)
    patience = _Patience(limit, asked)
    try:
        async with limit:
            admission, mesh_id = await _pair(identity, (host, port), read, name, patience)
    except ConnectionRefusedError:
        raise InviteExpired(
            f"No invitation is open at {where}: it has ended, or the address is another. "
            "Run `peerinfer invite` again on the other machine."
        ) from None
    except TimeoutError:
        if patience.is_for_a_person:
            raise PairingError(f"Nobody at {where} said yes in time. Ask its owner, then join again.") from None
        raise PairingError(f"No answer came from {where} in time. Check the address and the firewall there.") from None
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, BadFrame):
        raise PairingError(
            f"The connection to {where} was broken off: too many are trying at once, "
            "or the invitation has just ended. Try again in a moment."
        ) from None
    except OSError as error:
        raise PairingError(f"The address {where} cannot be reached ({error.strerror or error}).") from None
    identity.adopt_admission(admission, mesh_id)
    addresses = tuple(f"{join_address(host, 0)[:-2]}{at}" if at.startswith(":") else at for at in admission.addresses)
    return JoinResult(mesh_id, len(identity.roster.members), addresses)


async def _pair(
    identity: Identity, at: tuple[str, int], code: JoinCode, name: str, patience: _Patience
) -> tuple[Admission, str]:
    """The exchange on one connection: the admission, and the mesh that it is for."""
    reader, writer = await asyncio.open_connection(
        *at, ssl=joiner_context(), server_hostname=_SERVER_NAME, ssl_shutdown_timeout=_GOODBYE_S
    )
    try:
        host_key, mesh_id = host_seen(cast(ssl.SSLObject, writer.get_extra_info("ssl_object")))
        if mesh_id == identity.mesh_id:
            raise PairingError("This node is already in that mesh; run `peerinfer join` on the one that is not.")
        if code.mesh_id and code.mesh_id != mesh_id:
            raise PairingError("Another mesh answers at the address of this invitation; nothing joined.")
        request = identity.request_certificate(mesh_id, name)
        machine = JoinerPairing(code, request, host_key, mesh_id, secrets.token_bytes(ENTROPY_BYTES))
        admission = _perform(machine.start(), writer)
        while admission is None:
            await writer.drain()
            if machine.awaits_admission:
                patience.extend()
            admission = _perform(machine.receive(await read_message(reader, JOINER_READS_MAX_BYTES)), writer)
    finally:
        patience.end()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    try:
        return Admission.from_bytes(admission), mesh_id
    except ValueError:
        raise PairingError("The admission cannot be read; use the same version on both machines.") from None


def _perform(effects: tuple[JoinerEffect, ...], writer: asyncio.StreamWriter) -> bytes | None:
    for effect in effects:
        match effect:
            case Say():
                write_message(writer, effect.message)
            case Adopt():
                return effect.admission
            case Fail():
                raise effect.error
    return None
