"""The key exchange of a pairing: SPAKE2 (RFC 9382) from the `spake2` package, and the keys drawn from it. Pure.

Both identities go into the key: the joiner's is the public key that its certificate will carry, the host's a hash
of the TLS key and the mesh id *as the joiner sees them*. Whoever stands between two honest ends shows each of them
another TLS key, so they end up with different keys even when both were given the right digits.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from typing import Any, cast

import spake2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ENTROPY_BYTES = 64
"""What one exchange draws its secret scalar from."""
ELEMENT_BYTES = 33
"""A side's name (`A` or `B`) and a point of the curve."""
_DOMAIN = b"peerinfer/pairing/v1\0"
_NONCE = bytes(12)
"""Fixed: each sealing key is fresh from its exchange and seals one message."""
_spake2: Any = spake2


class Side(enum.StrEnum):
    """Who speaks."""

    JOINER = "joiner"
    HOST = "host"


def host_binding(host_key: bytes, mesh_id: str) -> bytes:
    """The host's identity in the exchange: its raw pairing TLS key and its mesh, as seen on one connection."""
    return hashlib.sha256(_DOMAIN + bytes.fromhex(mesh_id) + host_key).digest()


class PairingKeys:
    """Keys for one pairing: each side confirms what it says with one, and seals it with another."""

    def __init__(self, shared: bytes) -> None:
        self._shared = shared

    def confirmation(self, side: Side, sealed: bytes) -> bytes:
        """Proof that `side` has the same key, over the sealed message that it comes with."""
        return hmac.digest(self._derive(side, b"confirm"), sealed, "sha256")

    def is_confirmed(self, side: Side, sealed: bytes, confirmation: bytes) -> bool:
        """Whether `confirmation` is the one of `side`."""
        return hmac.compare_digest(self.confirmation(side, sealed), confirmation)

    def seal(self, side: Side, plain: bytes) -> bytes:
        """`plain` for the other side's eyes only. Once per side and exchange: the nonce is fixed."""
        return ChaCha20Poly1305(self._derive(side, b"seal")).encrypt(_NONCE, plain, None)

    def unseal(self, side: Side, sealed: bytes) -> bytes:
        """What `side` sealed. Raises `ValueError` if it was not sealed with this key."""
        try:
            return ChaCha20Poly1305(self._derive(side, b"seal")).decrypt(_NONCE, sealed, None)
        except InvalidTag:
            raise ValueError("sealed with another key") from None

    def _derive(self, side: Side, purpose: bytes) -> bytes:
        return HKDF(SHA256(), 32, None, _DOMAIN + side.encode() + b" " + purpose).derive(self._shared)


class Exchange:
    """One side of one SPAKE2 run. `element` goes to the other side; `finish` takes theirs, once."""

    def __init__(self, side: Side, password: bytes, public_key: bytes, binding: bytes, entropy: bytes) -> None:
        if len(entropy) != ENTROPY_BYTES:
            raise ValueError(f"an exchange takes {ENTROPY_BYTES} bytes of entropy")

        def drawn(size: int) -> bytes:
            return entropy[:size]

        kind = _spake2.SPAKE2_A if side is Side.JOINER else _spake2.SPAKE2_B
        self._run: Any = kind(password, idA=public_key, idB=binding, entropy_f=drawn)
        self.element = cast(bytes, self._run.start())

    def finish(self, element: bytes) -> PairingKeys:
        """The keys, whose sameness is not yet proven. Raises `ValueError` for what is no element of the other side."""
        if len(element) != ELEMENT_BYTES:
            raise ValueError("an element of the wrong length")
        try:
            return PairingKeys(cast(bytes, self._run.finish(element)))
        except Exception as error:  # the package raises many kinds; all of them mean "not an element"
            raise ValueError(f"not an element of the other side ({type(error).__name__})") from None
