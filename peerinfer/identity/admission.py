"""What a new member is given, and nobody else may see: certificate, CA with its key, roster, where the peers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from peerinfer.identity.authority import AuthorityParts
from peerinfer.packing import pack, unpack

ADMISSION_MAX_BYTES = 1024 * 1024
"""A full store of statements with long names is 450 kB, the longest chain of CAs 30 kB."""
ADDRESSES_MAX = 256
"""As many as members."""
ADDRESS_MAX = 300
"""Characters of `host:port`; a DNS name has at most 253."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Sealed by the pairing's key on its way from host to joiner."""

    leaf: bytes
    """DER, for the joiner's key."""
    authority: AuthorityParts
    """The mesh's CA of today: every member can invite."""
    founding: bytes
    """DER of the mesh's first CA certificate."""
    statements: tuple[bytes, ...]
    addresses: tuple[str, ...]
    """`host:port` of members, the inviter's own first; an empty host (`:8643`) is the one that the joiner dialled."""

    def to_bytes(self) -> bytes:
        """As it is sealed. Raises `ValueError` over the limit."""
        key, chain, rotation = self.authority.key, self.authority.chain, self.authority.rotation
        data = pack([self.leaf, key, chain, rotation, self.founding, self.statements, self.addresses])
        if len(data) > ADMISSION_MAX_BYTES or len(self.addresses) > ADDRESSES_MAX:
            raise ValueError("the roster is too large to be handed to a new member")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Admission:
        """The reverse of `to_bytes`. Raises `ValueError` for anything else."""
        match cast(list[object], unpack(data, ADMISSION_MAX_BYTES)):
            case [
                bytes() as leaf,
                bytes() as key,
                chain,
                bytes() as rotation,
                bytes() as founding,
                statements,
                addresses,
            ]:
                authority = AuthorityParts(key, _all_bytes(chain), rotation)
                return cls(leaf, authority, founding, _all_bytes(statements), _all_addresses(addresses))
            case _:
                raise ValueError("not an admission")


def _all_bytes(value: object) -> tuple[bytes, ...]:
    items = tuple(cast(list[object], value)) if isinstance(value, list) else (None,)
    if not all(isinstance(item, bytes) for item in items):
        raise ValueError("an admission's certificates and statements must be bytes")
    return cast(tuple[bytes, ...], items)


def _all_addresses(value: object) -> tuple[str, ...]:
    items = tuple(cast(list[object], value)) if isinstance(value, list) else (None,)
    if len(items) > ADDRESSES_MAX or not all(_is_address(item) for item in items):
        raise ValueError("an admission's addresses must be short texts")
    return cast(tuple[str, ...], items)


def _is_address(item: object) -> bool:
    return isinstance(item, str) and len(item) <= ADDRESS_MAX and item.isprintable()
