"""The switchboard: messages and tensor frames to and from any peer by its node id, and who is connected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from peerinfer.errors import LinkDown
from peerinfer.net.link import Link
from peerinfer.net.link_messages import GoodbyeReason

M = TypeVar("M")
MessageHandler = Callable[[str, M], None]
"""Takes the sender's node id and a message, in order, without waiting."""
FrameHandler = Callable[[str, bytes], None]
"""Takes the sender's node id and a tensor frame's bytes, in order, without waiting."""
PeerHandler = Callable[[str, bool], None]
"""Takes a peer's node id and whether it is connected now. What was sent over an ended link may be lost."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What is known of the link with one peer at this moment."""

    name: str
    address: str
    """Where the peer takes links, as `ip:port`."""
    incarnation: int
    rtt_us: float | None
    """Moving average of the round trip; None before the first heartbeat is answered."""
    rtt_high_us: float | None
    """What nine of ten round trips of the last half minute did not exceed."""
    rtt_min_us: int | None
    offset_us: int | None
    """The peer's monotonic clock minus ours."""
    last_heard: float
    """Seconds on our monotonic clock."""
    bytes_sent: int
    bytes_received: int
    dialled: bool
    """Whether this node dialled; else the peer did."""


class Switchboard:
    """Routes messages by node id. Handlers are plain functions; what they raise is logged and ends nothing.

    Messages to this node itself are delivered in order by the event loop, as if they had come over a link.
    """

    def __init__(self, own_id: str) -> None:
        self.own_id = own_id
        self._links: dict[str, Link] = {}
        self._message_handlers: dict[type[Any], list[MessageHandler[Any]]] = {}
        self._frame_handlers: list[FrameHandler] = []
        self._peer_handlers: list[PeerHandler] = []

    def on(self, kind: type[M], handler: MessageHandler[M]) -> None:
        """Has `handler` take every message of class `kind`; several handlers are called in order of registration."""
        self._message_handlers.setdefault(kind, []).append(handler)

    def on_frame(self, handler: FrameHandler) -> None:
        """Has `handler` take every tensor frame."""
        self._frame_handlers.append(handler)

    def on_peer(self, handler: PeerHandler) -> None:
        """Has `handler` told of every peer that is connected or no longer is."""
        self._peer_handlers.append(handler)

    def send(self, to: str, message: object) -> None:
        """Sends a control message, or queues it ahead of all data; never waits. Raises `LinkDown`."""
        if to == self.own_id:
            asyncio.get_running_loop().call_soon(self.take_message, to, message)
        else:
            self._link(to).send(message)

    def try_send_frame(self, to: str, parts: Sequence[bytes | memoryview]) -> bool:
        """Sends a tensor frame if the link can take it at once; else says false. Raises `LinkDown`."""
        if to == self.own_id:
            asyncio.get_running_loop().call_soon(self.take_frame, to, b"".join(parts))
            return True
        return self._link(to).try_send_frame(parts)

    async def send_frame(self, to: str, parts: Sequence[bytes | memoryview]) -> None:
        """Sends the tensor frame made of `parts`; waits while the link's data lane is full. Raises `LinkDown`."""
        if not self.try_send_frame(to, parts):
            await self._link(to).send_frame(parts)

    def peers(self) -> dict[str, LinkFacts]:
        """The connected peers and their links, by node id; without this node."""
        return {node: _facts(link) for node, link in self._links.items()}

    def is_connected(self, node: str) -> bool:
        """Whether there is a live link with `node`."""
        return node in self._links

    def local_us(self, sender: str, stamp_us: int) -> int | None:
        """A stamp of the sender's monotonic clock on ours; None while its offset is unknown."""
        if sender == self.own_id:
            return stamp_us
        link = self._links.get(sender)
        return link.timing.local_us(stamp_us) if link else None

    def disconnect(self, node: str, reason: GoodbyeReason, sentence: str) -> None:
        """Begins to end the link with `node`, if there is one."""
        if link := self._links.get(node):
            link.close(reason, sentence)

    # From here on: for the links themselves.

    def link_with(self, node: str) -> Link | None:
        """The live link with `node`."""
        return self._links.get(node)

    def attach(self, link: Link) -> None:
        """Takes a new link into use; it replaces one with the same peer."""
        node = link.peer.node
        if former := self._links.get(node):
            self.detach(former)
            former.close(GoodbyeReason.DUPLICATE, "A newer link with the same peer takes its place.")
        self._links[node] = link
        self._tell_peer(node, True)

    def detach(self, link: Link) -> None:
        """Puts a link out of use, if it is the one in use."""
        node = link.peer.node
        if self._links.get(node) is link:
            del self._links[node]
            self._tell_peer(node, False)

    def take_message(self, sender: str, message: object) -> None:
        """Gives a received message to its handlers."""
        handlers = self._message_handlers.get(type(message))
        if handlers is None:
            log.debug("Nobody here takes a %s message.", type(message).__name__)
            return
        for handler in handlers:
            try:
                handler(sender, message)
            except Exception:
                log.exception("A handler failed on a %s message from %s.", type(message).__name__, sender[:8])

    def take_frame(self, sender: str, data: bytes) -> None:
        """Gives a received tensor frame to its handlers."""
        for handler in self._frame_handlers:
            try:
                handler(sender, data)
            except Exception:
                log.exception("A handler failed on a tensor frame from %s.", sender[:8])

    def _tell_peer(self, node: str, up: bool) -> None:
        for handler in self._peer_handlers:
            try:
                handler(node, up)
            except Exception:
                log.exception("A handler failed on the news that %s is %s.", node[:8], "up" if up else "down")

    def _link(self, node: str) -> Link:
        link = self._links.get(node)
        if link is None:
            raise LinkDown(f"There is no link with the node {node[:8]} at the moment.")
        return link


def _facts(link: Link) -> LinkFacts:
    return LinkFacts(
        name=link.peer.name,
        address=link.address,
        incarnation=link.peer.incarnation,
        rtt_us=link.timing.rtt_us,
        rtt_high_us=link.timing.rtt_high_us,
        rtt_min_us=link.timing.rtt_min_us,
        offset_us=link.timing.offset_us,
        last_heard=link.last_heard,
        bytes_sent=link.bytes_sent,
        bytes_received=link.bytes_received,
        dialled=link.dialled,
    )
