"""Hello and ack: how the two ends of a fresh, mutually verified connection agree that it is their link.

If their certificates come from two CAs of the mesh, the connection becomes no link: each end gives the other its CA
in place of a hello, the one whose CA ranks lower takes over the other's, and they connect again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from peerinfer.errors import (
    BadFrame,
    DuplicateLink,
    LinkDown,
    LinkError,
    NotTrusted,
    OutdatedCertificate,
    ProtocolMismatch,
)
from peerinfer.net.authority_messages import RotatedAuthority
from peerinfer.net.link_messages import Goodbye, GoodbyeReason, Hello, HelloAck
from peerinfer.net.messages import decode, encode
from peerinfer.net.wire import Wire

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""From the first byte to the ack, and for the TLS handshake before; on a LAN both take milliseconds."""


T = TypeVar("T")
TakeAuthority = Callable[[RotatedAuthority], None]
"""Takes over what a member gave, if it holds; what does not hold is no error here."""


async def shake_hands(
    wire: Wire, own: Hello, peer: str, consent: Callable[[Hello], Awaitable[None]], take: TakeAuthority
) -> Hello:
    """The peer's hello, after both sides have acknowledged each other's. `peer` is the node id of its certificate.

    Both sides say hello at once, and each acknowledges what it accepts; `consent` raises a `LinkError` to refuse.
    Either side is told the reason of a refusal. Raises `ProtocolMismatch`, `NotTrusted`, `DuplicateLink`,
    `OutdatedCertificate` if the peer gave its CA instead, `BadFrame` or `LinkDown`.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            wire.write(encode(own))
            hello = await _next(wire, Hello, take)
            check_hello(hello, own, peer)
            await consent(hello)
            wire.write(encode(HelloAck(hello.incarnation)))
            ack = await _next(wire, HelloAck, take)
    except TimeoutError:
        raise LinkDown("The peer did not finish its hello in time.") from None
    except LinkError as error:
        say_goodbye(wire, error)
        raise
    if ack.incarnation != own.incarnation:
        raise BadFrame("The peer acknowledged another hello than ours.")
    return hello


async def renew(wire: Wire, own: RotatedAuthority, take: TakeAuthority) -> OutdatedCertificate:
    """Gives the peer, a member whose certificate is not from this node's CA, that CA, and takes in what it gives.

    Nothing else is taken from it. Returns, once the peer is done with it too, the error that ends this connection:
    the next one shows who has renewed. Raises `BadFrame` or `LinkDown`.
    """
    ending = OutdatedCertificate("The two nodes held different CAs of the mesh, and have told each other: dial again.")
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            wire.write(encode(own))
            data = await wire.receive()
            message = None if data is None else decode(data)
            if isinstance(message, Goodbye):
                raise _refusal(message)
            if isinstance(message, RotatedAuthority):
                take(message)
            say_goodbye(wire, ending)
            while data is not None and not isinstance(decode(data), Goodbye):
                data = await wire.receive()  # what it had sent before it saw that the CAs differ is passed over
    except TimeoutError:
        raise LinkDown("The peer did not finish the renewal in time.") from None
    return ending


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
        OutdatedCertificate: GoodbyeReason.OUTDATED,
        BadFrame: GoodbyeReason.BROKEN,
    }
    with contextlib.suppress(LinkDown):
        wire.write(encode(Goodbye(reasons.get(type(error), GoodbyeReason.FULL), str(error))))


async def _next(wire: Wire, kind: type[T], take: TakeAuthority) -> T:
    data = await wire.receive()
    if data is None:
        raise LinkDown("The peer closed the connection before its hello was complete.")
    message = decode(data)
    if isinstance(message, kind):
        return message
    if isinstance(message, Goodbye):
        raise _refusal(message)
    if isinstance(message, RotatedAuthority):
        take(message)
        raise OutdatedCertificate("The peer gave its CA of the mesh instead of a hello: dial again.")
    raise BadFrame(f"The peer sent a {type(message).__name__} where a {kind.__name__} was due.")


def _refusal(goodbye: Goodbye) -> LinkError:
    kinds: dict[str, type[LinkError]] = {
        GoodbyeReason.PROTOCOL: ProtocolMismatch,
        GoodbyeReason.NOT_TRUSTED: NotTrusted,
        GoodbyeReason.DUPLICATE: DuplicateLink,
        GoodbyeReason.OUTDATED: OutdatedCertificate,
    }
    return kinds.get(goodbye.reason, LinkDown)(f"The peer refused: {goodbye.sentence[:300]}")
