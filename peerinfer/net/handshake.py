"""Hello and ack: how the two ends of a fresh, mutually verified connection agree that it is their link."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from peerinfer.errors import BadFrame, DuplicateLink, LinkDown, LinkError, NotTrusted, ProtocolMismatch
from peerinfer.net.link_messages import Goodbye, GoodbyeReason, Hello, HelloAck
from peerinfer.net.messages import decode, encode
from peerinfer.net.wire import Wire

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""From the first byte to the ack, and for the TLS handshake before; on a LAN both take milliseconds."""


T = TypeVar("T")


async def shake_hands(wire: Wire, own: Hello, peer: str, consent: Callable[[Hello], Awaitable[None]]) -> Hello:
    """The peer's hello, after both sides have acknowledged each other's. `peer` is the node id of its certificate.

    Both sides say hello at once, and each acknowledges what it accepts; `consent` raises a `LinkError` to refuse.
    Either side is told the reason of a refusal. Raises `ProtocolMismatch`, `NotTrusted`, `DuplicateLink`,
    `BadFrame` or `LinkDown`.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            wire.write(encode(own))
            hello = await _next(wire, Hello)
            check_hello(hello, own, peer)
            await consent(hello)
            wire.write(encode(HelloAck(hello.incarnation)))
            ack = await _next(wire, HelloAck)
    except TimeoutError:
        raise LinkDown("The peer did not finish its hello in time.") from None
    except LinkError as error:
        say_goodbye(wire, error)
        raise
    if ack.incarnation != own.incarnation:
        raise BadFrame("The peer acknowledged another hello than ours.")
    return hello


def check_hello(hello: Hello, own: Hello, peer: str) -> None:
    """Raises `ProtocolMismatch` or `NotTrusted` if `hello` cannot be that of `peer` in this mesh and version."""
    if hello.protocol != own.protocol:
        older = "this node" if own.protocol < hello.protocol else "that peer"
        raise ProtocolMismatch(
            f"The peer {hello.node[:8]} speaks protocol version {hello.protocol} and this node version "
            f"{own.protocol}: update peerinfer on {older}, the older of the two."
        )
    if hello.node != peer:
        raise NotTrusted("The peer's hello names another node than its certificate.")
    if hello.mesh != own.mesh:
        raise NotTrusted("The peer belongs to another mesh.")


def say_goodbye(wire: Wire, error: LinkError) -> None:
    """Tells the peer why this connection is refused, if it still listens."""
    reasons: dict[type[LinkError], GoodbyeReason] = {
        ProtocolMismatch: GoodbyeReason.PROTOCOL,
        NotTrusted: GoodbyeReason.NOT_TRUSTED,
        DuplicateLink: GoodbyeReason.DUPLICATE,
        BadFrame: GoodbyeReason.BROKEN,
    }
    with contextlib.suppress(LinkDown):
        wire.write(encode(Goodbye(reasons.get(type(error), GoodbyeReason.FULL), str(error))))


async def _next(wire: Wire, kind: type[T]) -> T:
    data = await wire.receive()
    if data is None:
        raise LinkDown("The peer closed the connection before its hello was complete.")
    message = decode(data)
    if isinstance(message, kind):
        return message
    if isinstance(message, Goodbye):
        raise _refusal(message)
    raise BadFrame(f"The peer sent a {type(message).__name__} where a {kind.__name__} was due.")


def _refusal(goodbye: Goodbye) -> LinkError:
    kinds: dict[str, type[LinkError]] = {
        GoodbyeReason.PROTOCOL: ProtocolMismatch,
        GoodbyeReason.NOT_TRUSTED: NotTrusted,
        GoodbyeReason.DUPLICATE: DuplicateLink,
    }
    return kinds.get(goodbye.reason, LinkDown)(f"The peer refused: {goodbye.sentence[:300]}")
