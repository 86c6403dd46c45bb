"""The signed statement of a member that it made the mesh's next CA, and for whom that CA is not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from peerinfer.identity.keys import ID_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey, node_id_of, verify
from peerinfer.identity.roster import STATEMENTS_MAX
from peerinfer.packing import pack, unpack

CERTIFICATE_MAX_BYTES = 1024
"""DER of a CA certificate, which has about 450 bytes."""
ROTATION_MAX_BYTES = 32 * 1024
"""A certificate, and the 18 packed bytes of an id for each removal that a roster can hold."""

_DOMAIN = b"peerinfer/authority/v1\0"


@dataclass(frozen=True, slots=True)
class Rotation:
    """Who made the CA with this certificate. `body` is the signed bytes as they came: nothing is re-encoded."""

    body: bytes
    signature: bytes
    issuer_key: bytes
    certificate: bytes
    """DER."""
    covers: frozenset[NodeId]
    """The removals that its maker knew: the CA's key was never given to these."""

    @classmethod
    def signed(cls, key: SigningKey, mesh_id: str, certificate: bytes, covers: frozenset[NodeId]) -> Rotation:
        """Stated by the owner of `key` in the mesh `mesh_id`. Raises `ValueError` if that owner is in `covers`."""
        body = pack([key.public_key, certificate, [bytes.fromhex(node) for node in sorted(covers)]])
        return cls.from_bytes(pack([body, key.sign(_signed_text(mesh_id, body))]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Rotation:
        """The statement in `data`, its signature not yet checked. Raises `ValueError` for anything else."""
        match unpack(data, ROTATION_MAX_BYTES):
            case [bytes() as body, bytes() as signature] if len(signature) == SIGNATURE_BYTES:
                return cls(body, signature, *_parse(body))
            case _:
                raise ValueError("not a statement of a new CA")

    def to_bytes(self) -> bytes:
        """As it travels and is stored."""
        return pack([self.body, self.signature])

    @property
    def issuer(self) -> NodeId:
        """Who made the CA."""
        return node_id_of(self.issuer_key)

    def is_signed_for(self, mesh_id: str) -> bool:
        """Whether its issuer signed it, for this mesh."""
        return verify(self.issuer_key, self.signature, _signed_text(mesh_id, self.body))


def _signed_text(mesh_id: str, body: bytes) -> bytes:
    return _DOMAIN + bytes.fromhex(mesh_id) + body


def _parse(body: bytes) -> tuple[bytes, bytes, frozenset[NodeId]]:
    """Issuer's key, certificate, and the removals that are covered."""
    match cast(list[object], unpack(body, ROTATION_MAX_BYTES)):
        case [bytes() as issuer, bytes() as certificate, raw] if len(issuer) == PUBLIC_KEY_BYTES:
            nodes = cast(list[object], raw) if isinstance(raw, list) else [None]
            covers = frozenset(node.hex() for node in nodes if isinstance(node, bytes) and len(node) == ID_BYTES)
            if len(certificate) <= CERTIFICATE_MAX_BYTES and len(nodes) == len(covers) <= STATEMENTS_MAX:
                if node_id_of(issuer) in covers:
                    raise ValueError("a CA cannot cover the removal of its own maker")
                return issuer, certificate, covers
        case _:
            pass
    raise ValueError("not a statement of a new CA")
