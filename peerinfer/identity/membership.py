"""One node's place in one mesh: its key, certificate, the CA and the roster, and the folder that holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from cryptography import x509

from peerinfer.errors import HomeError, PairingError
from peerinfer.identity.admission import Admission
from peerinfer.identity.authority import HINT_SECRET_BYTES, Authority, AuthorityParts
from peerinfer.identity.certificates import load_der, to_der, to_pem
from peerinfer.identity.files import private_folder, write_private
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.roster import STATEMENT_MAX_BYTES, STATEMENTS_MAX, Roster
from peerinfer.identity.rotation import ROTATION_MAX_BYTES
from peerinfer.packing import pack, unpack

FORMER_HINTS_MAX = 16
"""Hint secrets of former CAs that are kept. A member that slept through more rotations is still found by the
addresses remembered of it."""

_NODE_KEY = "node.key"
_CHAIN = "chain.pem"
"""Leaf, CA, the CAs before it; not the founding one."""
_FOUNDING = "founding.pem"
_CA_KEY = "ca.key"
_ROTATION = "rotation"
"""The statement of the CA's maker, and the hint secrets of former CAs."""
_ROSTER = "roster"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What Python's `ssl` reads from disk for a mesh link, as server and as client alike (PEM)."""

    certificate: Path
    """The leaf, with the CAs that lead from it to the founding one."""
    key: Path
    authority: Path
    """The founding certificate: the only one that is trusted by itself."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A value; what changes is written to a folder and replaced."""

    key: SigningKey
    authority: Authority
    leaf: bytes
    """DER."""
    roster: Roster
    former_hints: tuple[bytes, ...] = ()
    """Hint secrets of the CAs that this node held before, the latest first."""

    @classmethod
    def founded(cls, key: SigningKey, name: str) -> Membership:
        """A mesh of one: a new CA, and a roster in which the founder admits itself."""
        authority = Authority.found(key.node_id)
        roster = Roster.of(authority.mesh_id, key.node_id).admitting(key, key.public_key, name)
        return cls(key, authority, authority.issue_to(key.public_key), roster)

    @classmethod
    def admitted(cls, key: SigningKey, admission: Admission, mesh_id: str) -> Membership:
        """The place that `admission` gives in `mesh_id`. Raises `PairingError` if it does not hold together."""
        try:
            authority = Authority.from_parts(admission.authority, admission.founding)
            if authority.mesh_id != mesh_id:
                raise PairingError("The admission is for another mesh than the invitation; nothing joined.")
            roster = Roster.of(authority.mesh_id, authority.founder).merged(admission.statements)
        except ValueError as error:
            raise PairingError(f"The admission is not valid ({error}); nothing joined.") from None
        if not authority.vouches_for(admission.leaf, key.public_key):
            raise PairingError("The admission holds no certificate for this node; nothing joined.")
        if not roster.is_member(key.node_id):
            raise PairingError("The admission's roster does not name this node; nothing joined.")
        if not authority.standing.covers <= roster.removed:
            raise PairingError("The admission's roster lacks removals that its CA is for; nothing joined.")
        return cls(key, authority, admission.leaf, roster)

    @property
    def folder_name(self) -> str:
        """Where it is kept: one folder per mesh, node key and CA, so that none ever overwrites another."""
        standing = self.authority.standing
        return f"{self.family_name}-{standing.generation.counter}-{standing.digest[:8].hex()}"

    @property
    def family_name(self) -> str:
        """How the folders of this mesh and node key begin."""
        return f"{self.authority.mesh_id}-{self.key.node_id}"

    def with_roster(self, roster: Roster) -> Membership:
        """The same with another roster."""
        return replace(self, roster=roster)

    def under(self, authority: Authority) -> Membership:
        """The same with another CA of the mesh, and a new leaf from it."""
        hints = (self.authority.hint_secret, *self.former_hints)[:FORMER_HINTS_MAX]
        leaf = authority.issue_to(self.key.public_key)
        return replace(self, authority=authority, leaf=leaf, former_hints=hints)

    def write(self, folder: Path) -> None:
        """Writes every file of it into `folder`."""
        private_folder(folder)
        chain = (load_der(self.leaf), *self.authority.chain[:-1])
        write_private(folder / _NODE_KEY, self.key.to_pem())
        write_private(folder / _CA_KEY, self.authority.key.to_pem())
        write_private(folder / _CHAIN, b"".join(to_pem(each) for each in chain))
        write_private(folder / _FOUNDING, to_pem(self.authority.founding))
        write_private(folder / _ROTATION, pack([self.authority.to_parts().rotation, self.former_hints]))
        self.write_roster(folder)

    def write_roster(self, folder: Path) -> None:
        """Writes what changes most."""
        write_private(folder / _ROSTER, pack(self.roster.to_wire()))

    @classmethod
    def read(cls, folder: Path) -> Membership:
        """What `write` wrote. Raises `HomeError` if it is damaged."""
        try:
            key = SigningKey.from_pem((folder / _NODE_KEY).read_bytes())
            ca_key = SigningKey.from_pem((folder / _CA_KEY).read_bytes())
            leaf, *chain = _ders(folder / _CHAIN)
            rotation, hints = _read_rotation(folder / _ROTATION)
            parts = AuthorityParts(ca_key.raw, tuple(chain), rotation)
            authority = Authority.from_parts(parts, _ders(folder / _FOUNDING)[0])
            if not authority.vouches_for(leaf, key.public_key):
                raise ValueError("the certificate is not this node's")
            statements = unpack((folder / _ROSTER).read_bytes(), STATEMENTS_MAX * (STATEMENT_MAX_BYTES + 8))
            if not isinstance(statements, list):
                raise ValueError("the roster is not a list")
        except (OSError, ValueError) as error:
            raise HomeError(
                f"The identity in {folder} cannot be read ({error}). Restore that folder from a backup, "
                "or move it away to begin as a new node."
            ) from None
        known = [item for item in cast(list[object], statements) if isinstance(item, bytes)]
        return cls(key, authority, leaf, Roster.of(authority.mesh_id, authority.founder).merged(known), hints)


def tls_files(folder: Path) -> TlsFiles:
    """The files of a membership's folder that mesh links need."""
    return TlsFiles(folder / _CHAIN, folder / _NODE_KEY, folder / _FOUNDING)


def forget_keys(folder: Path) -> None:
    """Deletes the private keys of a mesh that was left; certificates and roster stay as an archive."""
    for name in (_NODE_KEY, _CA_KEY):
        for path in (folder / name, *folder.glob(f".{name}.*")):  # the latter are left where a write was cut off
            path.unlink(missing_ok=True)


def _ders(path: Path) -> list[bytes]:
    """The certificates in a PEM file, at least one. Raises `ValueError`."""
    return [to_der(each) for each in x509.load_pem_x509_certificates(path.read_bytes())]


def _read_rotation(path: Path) -> tuple[bytes, tuple[bytes, ...]]:
    limit = ROTATION_MAX_BYTES + (FORMER_HINTS_MAX + 1) * (HINT_SECRET_BYTES + 8)
    match cast(list[object], unpack(path.read_bytes(), limit)):
        case [bytes() as rotation, raw] if isinstance(raw, list):
            hints = tuple(cast(list[object], raw))
            if all(isinstance(hint, bytes) for hint in hints) and len(hints) <= FORMER_HINTS_MAX:
                return rotation, cast(tuple[bytes, ...], hints)
        case _:
            pass
    raise ValueError("the statement of the CA's maker is not one")
