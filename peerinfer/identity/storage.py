"""The door of identity: who this node is and whom it trusts, on disk before it is told.

`home/identity/current` names the folder of the membership that counts; it is replaced in one step, after the new
folder is complete, so that a crash leaves either the old membership or the new one. Older folders are archives.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from peerinfer import clock
from peerinfer.errors import HomeError, PairingError
from peerinfer.identity.admission import Admission
from peerinfer.identity.authority import Authority, CertificateRequest, to_der
from peerinfer.identity.files import private_folder, write_private
from peerinfer.identity.keys import NodeId, SigningKey, node_id_of
from peerinfer.identity.membership import Membership, TlsFiles, forget_keys, tls_files
from peerinfer.identity.roster import MEMBERS_MAX, STATEMENTS_MAX, Admit, Roster, clean_name

_CURRENT = "current"
_NAME = "name"


class Identity:
    """This node. Its calls write to disk (a few ms, synced) before they return; one daemon per home calls them."""

    def __init__(self, folder: Path, membership: Membership, name: str, wall: clock.Clock) -> None:
        """Use `open`."""
        self._folder = folder
        self._membership = membership
        self._name = name
        self._wall = wall

    @classmethod
    def open(cls, home: Path, name: str = "", wall: clock.Clock = clock.wall) -> Identity:
        """Loads the identity under `home`, or makes one: a mesh of one.

        `name` is for people, and kept until another is given; at first the machine's own.
        Raises `HomeNotOurs` for another user's folder, `HomeError` for a damaged one.
        """
        folder = home / "identity"
        private_folder(home)
        private_folder(folder)
        try:
            stored = _read(folder / _NAME)
            shown = clean_name(name or stored or platform.node())
            if shown != stored:
                write_private(folder / _NAME, shown.encode())
            current = _read(folder / _CURRENT)
            if current:
                membership = Membership.read(folder / Path(current).name)
            else:
                membership = Membership.founded(SigningKey.create(), shown, wall())
                _settle(folder, membership)
        except OSError as error:
            raise HomeError(
                f"The identity in {folder} cannot be used ({error}). Check the disk and the rights of that folder."
            ) from None
        return cls(folder, membership, shown, wall)

    @property
    def node_id(self) -> NodeId:
        """This node's id. A new one after `leave`."""
        return self._membership.key.node_id

    @property
    def public_key(self) -> bytes:
        """The raw public key behind it."""
        return self._membership.key.public_key

    @property
    def name(self) -> str:
        """What people call this node."""
        return self._name

    @property
    def mesh_id(self) -> str:
        """The mesh this node belongs to."""
        return self._membership.authority.mesh_id

    @property
    def authority(self) -> Authority:
        """The mesh's CA as this node holds it."""
        return self._membership.authority

    @property
    def roster(self) -> Roster:
        """Who is a member, as far as this node knows."""
        return self._membership.roster

    @property
    def inviter(self) -> NodeId:
        """Who let this node into the mesh; itself for the founder."""
        own = (each for each in self.roster.statements if isinstance(each.claim, Admit))
        return next((each.issuer for each in own if each.claim.subject == self.node_id), self.node_id)

    @property
    def is_alone(self) -> bool:
        """Whether this is a mesh of one, which may join another."""
        return self.roster.members.keys() <= {self.node_id}

    @property
    def tls_files(self) -> TlsFiles:
        """What `peerinfer.net.tls` builds its contexts from; other files after `adopt_admission` and `leave`."""
        return tls_files(self._folder / self._membership.folder_name)

    def sign(self, data: bytes) -> bytes:
        """A signature with the node key. `data` begins with the domain of its use."""
        return self._membership.key.sign(data)

    def request_certificate(self, mesh_id: str, name: str = "") -> CertificateRequest:
        """What this node asks of the mesh that it wants to join."""
        return CertificateRequest.signed(self._membership.key, clean_name(name or self._name), mesh_id)

    def admit(self, request: CertificateRequest, addresses: tuple[str, ...] = ()) -> Admission:
        """Lets a node in that has proven the code, and gives what it needs. A member may come again.

        Raises `PairingError` if it was removed, or the mesh is full.
        """
        roster, authority = self.roster, self.authority
        newcomer = node_id_of(request.public_key)
        if newcomer in roster.removed:
            raise PairingError("That node was removed from this mesh; it must first leave, which gives it a new key.")
        if not roster.is_member(newcomer):
            if len(roster.members) >= MEMBERS_MAX or len(roster.statements) >= STATEMENTS_MAX:
                raise PairingError(f"The mesh is full: it has {len(roster.members)} members.")
            roster = roster.admitting(self._membership.key, request.public_key, request.name)
        try:
            admission = Admission(
                leaf=authority.issue(request, self._wall()),
                ca_certificate=to_der(authority.certificate),
                ca_key=authority.key.raw,
                founding=to_der(authority.founding),
                statements=roster.to_wire(),
                addresses=addresses,
            )
        except ValueError as error:
            raise PairingError(f"The node cannot be admitted: {error}.") from None
        self._keep(roster)
        return admission

    def remove(self, node: NodeId) -> None:
        """Removes a member for ever (this node too, as a farewell before `leave`). Send `roster.to_wire()` around.

        Raises `PairingError` if it is no member.
        """
        if not self.roster.is_member(node):
            raise PairingError(f"No member of this mesh has the id {node}; `peerinfer status` lists them.")
        self._keep(self.roster.removing(self._membership.key, node))

    def merge_statements(self, statements: Iterable[bytes]) -> bool:
        """Takes in what a peer says of the roster; whether anything was new. Malformed and forged ones are left out."""
        merged = self.roster.merged(statements)
        changed = merged.statements != self.roster.statements
        if changed:
            self._keep(merged)
        return changed

    def check_alone(self) -> None:
        """Raises `PairingError` unless this node may join another mesh."""
        if not self.is_alone:
            others = len(self.roster.members.keys() - {self.node_id})
            raise PairingError(
                f"This node is already in a mesh with {others} other{'s' if others > 1 else ''}, and two grown meshes "
                "do not merge. Run `peerinfer leave` first, or invite the other node into this mesh instead."
            )

    def adopt_admission(self, admission: Admission, mesh_id: str) -> None:
        """Moves into the mesh that was joined; the old mesh of one stays on disk as an archive.

        `mesh_id`: the one that the key exchange vouched for. Raises `PairingError`, with nothing changed, if this
        node is in a grown mesh or the admission does not hold together.
        """
        self.check_alone()
        membership = Membership.admitted(self._membership.key, admission, mesh_id)
        _settle(self._folder, membership)
        self._membership = membership

    def leave(self) -> None:
        """Begins again as a mesh of one with a *new* node key: a key that was removed can never come back."""
        left = self._folder / self._membership.folder_name
        membership = Membership.founded(SigningKey.create(), self._name, self._wall())
        _settle(self._folder, membership)
        self._membership = membership
        forget_keys(left)

    def _keep(self, roster: Roster) -> None:
        membership = self._membership.with_roster(roster)
        membership.write_roster(self._folder / membership.folder_name)
        self._membership = membership


def _settle(folder: Path, membership: Membership) -> None:
    """Writes a membership whole, then lets it count."""
    membership.write(folder / membership.folder_name)
    write_private(folder / _CURRENT, membership.folder_name.encode())


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except FileNotFoundError:
        return None
