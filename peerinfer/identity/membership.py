"""One node's place in one mesh: its key, certificate, the CA and the roster, and the folder that holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from peerinfer.errors import HomeError, PairingError
from peerinfer.identity.admission import Admission
from peerinfer.identity.authority import Authority, CertificateRequest, to_der
from peerinfer.identity.files import private_folder, write_private
from peerinfer.identity.keys import SigningKey
from peerinfer.identity.roster import STATEMENT_MAX_BYTES, STATEMENTS_MAX, Roster
from peerinfer.packing import pack, unpack

_NODE_KEY = "node.key"
_LEAF = "leaf.pem"
_CA = "ca.pem"
_CA_KEY = "ca.key"
_FOUNDING = "founding.pem"
_ROSTER = "roster"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What Python's `ssl` reads from disk for a mesh link, as server and as client alike (PEM)."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Membership:
    """A value; what changes is written to a folder and replaced."""

    key: SigningKey
    authority: Authority
    leaf: bytes
    """DER."""
    roster: Roster

    @classmethod
    def founded(cls, key: SigningKey, name: str, now: float) -> Membership:
        """A mesh of one: a new CA, and a roster in which the founder admits itself. `now`: seconds since 1970."""
        authority = Authority.found(key.node_id, now)
        mesh_id = authority.mesh_id
        leaf = authority.issue(CertificateRequest.signed(key, name, mesh_id), now)
        roster = Roster.of(mesh_id, key.node_id).admitting(key, key.public_key, name)
        return cls(key, authority, leaf, roster)

    @classmethod
    def admitted(cls, key: SigningKey, admission: Admission, mesh_id: str) -> Membership:
        """The place that `admission` gives in `mesh_id`. Raises `PairingError` if it does not hold together."""
        try:
            authority = Authority.from_parts(
                admission.ca_certificate, SigningKey.from_raw(admission.ca_key), admission.founding
            )
        except ValueError as error:
            raise PairingError(f"The admission is not valid ({error}); nothing joined.") from None
        roster = Roster.of(authority.mesh_id, authority.founder).merged(admission.statements)
        if authority.mesh_id != mesh_id:
            raise PairingError("The admission is for another mesh than the invitation; nothing joined.")
        if not authority.vouches_for(admission.leaf, key.public_key):
            raise PairingError("The admission holds no certificate for this node; nothing joined.")
        if not roster.is_member(key.node_id):
            raise PairingError("The admission's roster does not name this node; nothing joined.")
        return cls(key, authority, admission.leaf, roster)

    @property
    def folder_name(self) -> str:
        """Where it is kept. One per mesh and node key, so that none ever overwrites another."""
        return f"{self.authority.mesh_id}-{self.key.node_id}"

    def with_roster(self, roster: Roster) -> Membership:
        """The same with another roster."""
        return replace(self, roster=roster)

    def write(self, folder: Path) -> None:
        """Writes every file of it into `folder`."""
        private_folder(folder)
        write_private(folder / _NODE_KEY, self.key.to_pem())
        write_private(folder / _CA_KEY, self.authority.key.to_pem())
        write_private(folder / _CA, self.authority.certificate.public_bytes(Encoding.PEM))
        write_private(folder / _FOUNDING, self.authority.founding.public_bytes(Encoding.PEM))
        write_private(folder / _LEAF, x509.load_der_x509_certificate(self.leaf).public_bytes(Encoding.PEM))
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
            authority = Authority.from_parts(_der(folder / _CA), ca_key, _der(folder / _FOUNDING))
            leaf = _der(folder / _LEAF)
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
        return cls(key, authority, leaf, Roster.of(authority.mesh_id, authority.founder).merged(known))


def tls_files(folder: Path) -> TlsFiles:
    """The files of a membership's folder that mesh links need."""
    return TlsFiles(folder / _LEAF, folder / _NODE_KEY, folder / _CA)


def forget_keys(folder: Path) -> None:
    """Deletes the private keys of a mesh that was left; certificates and roster stay as an archive."""
    for name in (_NODE_KEY, _CA_KEY):
        (folder / name).unlink(missing_ok=True)


def _der(path: Path) -> bytes:
    return to_der(x509.load_pem_x509_certificate(path.read_bytes()))
