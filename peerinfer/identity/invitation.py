"""What an invitation is made of: six digits to read out, or a 128-bit secret in a URI to scan. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from peerinfer.errors import PairingError

DIGITS = 6
"""20 bits: enough where three guesses are all that anybody gets."""
SECRET_BYTES = 16
"""For the URI, which nobody types."""
_SCHEME = "peerinfer"
_SEPARATORS = frozenset(" -\u2010\u2011\u2012\u2013\u2014\u2212._\t")
"""What people, chat programs and phones put between two groups of digits."""
_UNREADABLE = (
    "This is not an invitation: a code has six digits, such as 482-913, and a link starts with peerinfer://join. "
    "Run `peerinfer invite` on a member for a new one."
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """Both secrets of one window; whoever knows either may join."""

    digits: str
    secret: bytes

    @classmethod
    def of(cls, number: int, secret: bytes) -> Invitation:
        """From a random number below 10**6 and 16 random bytes, both handed in."""
        if not 0 <= number < 10**DIGITS or len(secret) != SECRET_BYTES:
            raise ValueError("an invitation takes a number of six digits and 16 secret bytes")
        return cls(f"{number:0{DIGITS}}", secret)

    @property
    def code(self) -> str:
        """As people see it: `482-913`."""
        return f"{self.digits[:3]}-{self.digits[3:]}"

    def uri(self, host: str, port: int, mesh_id: str) -> str:
        """As a phone or a program reads it: with the secret, the address and the mesh."""
        shown = f"[{host}]" if ":" in host else host
        return f"{_SCHEME}://join?" + urlencode(
            {"at": f"{shown}:{port}", "mesh": mesh_id, "secret": self.secret.hex()}, safe="[]:"
        )

    def password(self, by_secret: bool) -> bytes:
        """What the key exchange is run with."""
        return _secret_password(self.secret) if by_secret else _digits_password(self.digits)


@dataclass(frozen=True, slots=True)
class JoinCode:
    """What a joiner was given, read: the password, and what only a URI says."""

    password: bytes
    by_secret: bool
    host: str = ""
    port: int = 0
    mesh_id: str = ""


def read_code(text: str) -> JoinCode:
    """Six digits, with or without spaces and dashes, or a URI. Raises `PairingError` for anything else."""
    cleaned = unicodedata.normalize("NFKC", text.strip())
    if cleaned.lower().startswith(f"{_SCHEME}:"):
        return _read_uri(text.strip())
    digits = "".join(char for char in cleaned if char not in _SEPARATORS)
    if len(digits) != DIGITS or not (digits.isascii() and digits.isdigit()):
        raise PairingError(_UNREADABLE)
    return JoinCode(_digits_password(digits), by_secret=False)


def _read_uri(uri: str) -> JoinCode:
    try:
        parts = urlsplit(uri)
        fields = {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=8).items()}
        secret, mesh_id = bytes.fromhex(fields["secret"]), bytes.fromhex(fields["mesh"]).hex()
        address = urlsplit(f"//{fields['at']}")
        host, port = address.hostname, address.port
    except (KeyError, ValueError):
        raise PairingError(_UNREADABLE) from None
    if parts.netloc != "join" or len(secret) != SECRET_BYTES or len(mesh_id) != 32 or not host or not port:
        raise PairingError(_UNREADABLE)
    return JoinCode(_secret_password(secret), by_secret=True, host=host, port=port, mesh_id=mesh_id)


def _digits_password(digits: str) -> bytes:
    return b"digits:" + digits.encode()


def _secret_password(secret: bytes) -> bytes:
    return b"secret:" + secret
