"""The mesh's CA on the wire: which one a node holds, and the CA itself, for members only."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.identity.authority import AuthorityParts
from peerinfer.identity.roster import STATEMENTS_MAX
from peerinfer.net.messages import Tag, message

DIGEST_BYTES = 32


@message(Tag.AUTHORITY)
@dataclass(frozen=True, slots=True)
class RotatedAuthority:
    """The CA that the sender holds, private key included; the receiver verifies it whole before it counts.

    Sent to a member over a link, behind the roster; and in place of a hello to a peer whose certificate is a
    member's, but not from the sender's CA. It is the only message that is taken from such a peer.
    """

    authority: AuthorityParts
    statements: tuple[bytes, ...]
    """Those of the sender's roster; none over a link, where they have been sent."""

    def __post_init__(self) -> None:
        if len(self.statements) > STATEMENTS_MAX:
            raise ValueError("too many statements")


@message(Tag.AUTHORITY_HELD)
@dataclass(frozen=True, slots=True)
class AuthorityHeld:
    """Which CA the sender holds, told on a new link; a peer that holds another answers with it."""

    digest: bytes
    """SHA-256 of its certificate."""

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError("not a digest")
