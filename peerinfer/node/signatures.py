"""Signatures of this node, and the check of others: one counts only if a member of the roster made it."""

from __future__ import annotations

from peerinfer.identity import keys
from peerinfer.identity.storage import Identity


class Signatures:
    """What gossip and intents are signed and checked with. Whoever signs puts the domain of its use in front."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def sign(self, data: bytes) -> bytes:
        """This node's Ed25519 signature."""
        return self._identity.sign(data)

    def verify(self, node: str, data: bytes, signature: bytes) -> bool:
        """Whether `node` is a member now and signed `data`."""
        member = self._identity.roster.members.get(node)
        return member is not None and keys.verify(member.public_key, signature, data)

    def is_member(self, node: str) -> bool:
        """Whether the roster names `node`, and nobody removed it."""
        return self._identity.roster.is_member(node)
