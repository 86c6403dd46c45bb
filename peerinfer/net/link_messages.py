"""Messages of the link itself: hello and its ack, heartbeat, goodbye, and addresses that peers tell each other."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from peerinfer.net.messages import Tag, message

PROTOCOL: Final = 1
"""Version of everything that peers say to each other. It changes when an older node could misunderstand a newer one."""
"""Characters of a node's name: a name is for people, and it must fit a line."""
NODE_ID_CHARACTERS: Final = 32
PEERS_MAX: Final = 64
"""Peers in one `PeerAddresses`: as many as a node has links."""
ADDRESSES_MAX: Final = 8
"""Addresses of one peer: a machine with more interfaces than this is reached by one of the first."""


class GoodbyeReason(enum.StrEnum):
    """Why a link ends, for programs. Only append; a receiver treats an unknown word as `BROKEN`."""

    PROTOCOL = "protocol"
    DUPLICATE = "duplicate"
    FULL = "full"
    NOT_TRUSTED = "not_trusted"
    LEAVING = "leaving"
    STALLED = "stalled"
    BROKEN = "broken"
    OUTDATED = "outdated"


@message(Tag.HELLO)
@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of either side. Its fields stay as they are in every protocol version, `protocol` first."""

    protocol: int
    mesh: str
    node: str
    incarnation: int
    """The sender's durable start counter: a newer link of a restarted peer replaces the old one."""
    name: str
    port: int
    """The port on which the sender takes links; 0 if it takes none."""

    def __post_init__(self) -> None:
        check_node_id(self.node)
        if not 0 <= self.port <= 65_535 or self.incarnation < 0:
            raise ValueError("a port or an incarnation out of range")


@message(Tag.HELLO_ACK)
@dataclass(frozen=True, slots=True)
class HelloAck:
    """The receiver's consent: it takes this connection as the link with the sender of the hello."""

    incarnation: int
    """That of the hello which it answers."""


@message(Tag.PING)
@dataclass(frozen=True, slots=True)
class Ping:
    """The heartbeat, with the sender's monotonic clock in microseconds."""

    sent_us: int


@message(Tag.PONG)
@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping: its stamp and the answerer's own monotonic clock, in microseconds."""

    sent_us: int
    answered_us: int


@message(Tag.GOODBYE)
@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last message of a link: a `GoodbyeReason` for programs and a sentence for people."""

    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a member was reached lately, as `ip:port`."""

    node: str
    addresses: tuple[str, ...]

    def __post_init__(self) -> None:
        check_node_id(self.node)
        if len(self.addresses) > ADDRESSES_MAX:
            raise ValueError("too many addresses of one peer")


@message(Tag.PEER_ADDRESSES)
@dataclass(frozen=True, slots=True)
class PeerAddresses:
    """Addresses of other members that the sender has links with: hints for dialling, never trust."""

    peers: tuple[PeerAddress, ...]

    def __post_init__(self) -> None:
        if len(self.peers) > PEERS_MAX:
            raise ValueError("too many peers")


def check_node_id(text: str) -> None:
    """Raises `ValueError` unless `text` is 32 lower-case hexadecimal characters."""
    if len(text) != NODE_ID_CHARACTERS or not set(text) <= set("0123456789abcdef"):
        raise ValueError("not a node id")
