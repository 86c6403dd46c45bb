"""Node keys: an Ed25519 pair (RFC 8032), and the node id that is the hash of its public half."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

NodeId = str
"""32 hex characters: the first 16 bytes of the SHA-256 of the raw public key."""

ID_BYTES = 16
"""A node or mesh id as raw bytes."""
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


def short_hash(data: bytes) -> str:
    """The first 16 bytes of the SHA-256 of `data`, as 32 hex characters: how nodes and meshes are named."""
    return hashlib.sha256(data).digest()[:ID_BYTES].hex()


def node_id_of(public_key: bytes) -> NodeId:
    """The id of the node that owns this raw Ed25519 public key."""
    return short_hash(public_key)


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` was made with the private half of `public_key`; false for malformed input."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key: a node's own, or the one of a mesh CA."""

    private: Ed25519PrivateKey

    @classmethod
    def create(cls) -> SigningKey:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_raw(cls, raw: bytes) -> SigningKey:
        """The key with these 32 private bytes. Raises `ValueError` for another length."""
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """The key in an unencrypted PKCS #8 PEM. Raises `ValueError` for anything else."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an Ed25519 key")
        return cls(key)

    @property
    def raw(self) -> bytes:
        """The 32 private bytes."""
        return self.private.private_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The raw public half, 32 bytes."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def node_id(self) -> NodeId:
        """The id of the node that owns this key."""
        return node_id_of(self.public_key)

    def to_pem(self) -> bytes:
        """PKCS #8 PEM without a password: Python's `ssl` wants it as a file."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature over `data`. Callers put a domain in front, so no two uses can be confused."""
        return self.private.sign(data)
