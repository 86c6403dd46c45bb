"""The door of identity: who this node is and whom it trusts, on disk before it is told.

`home/identity/current` names the folder of the membership that counts; it is replaced in one step, after the new
folder is complete, so that a crash leaves either the old membership or the new one, CA and roster together. Folders
of former CAs of the same mesh are deleted then, or at the next start; those of other meshes stay as archives.
"""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from peerinfer.errors import HomeError, NotTrusted, PairingError
from peerinfer.identity.admission import Admission
from peerinfer.identity.authority import Authority, AuthorityParts, CertificateRequest
from peerinfer.identity.certificates import to_der
from peerinfer.identity.files import private_folder, write_private
from peerinfer.identity.keys import NodeId, SigningKey, node_id_of
from peerinfer.identity.membership import Membership, TlsFiles, forget_keys, tls_files
from peerinfer.identity.roster import MEMBERS_MAX, STATEMENTS_MAX, Admit, Roster, clean_name
from peerinfer.identity.succession import check_standing, replaces

_CURRENT = "current"
_NAME = "name"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrustNews:
    """What changed by something that a peer told."""

    roster: bool
    authority: bool
    refusal: str
    """Why the peer's CA must not be taken over; empty if there was nothing wrong with it."""


class Identity:
    """This node. Its calls write to disk (a few ms, synced) before they return; one daemon per home calls them."""

    def __init__(self, folder: Path, membership: Membership, name: str) -> None:
        """Use `open`."""
        self._folder = folder
        self._membership = membership
        self._name = name
        self._is_unsaved = False

    @classmethod
    def open(cls, home: Path, name: str = "") -> Identity:
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
                _forget_former(folder, membership)
            else:
                membership = Membership.founded(SigningKey.create(), shown)
                _settle(folder, membership)
        except OSError as error:
            raise HomeError(
                f"The identity in {folder} cannot be used ({error}). Check the disk and the rights of that folder."
            ) from None
        return cls(folder, membership, shown)

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
    def is_removed(self) -> bool:
        """Whether the mesh removed this node, as far as it knows."""
        return self.node_id in self.roster.removed

    @property
    def is_alone(self) -> bool:
        """Whether this node may join another mesh: it is a mesh of one, or was removed from a grown one."""
        return self.is_removed or self.roster.members.keys() <= {self.node_id}

    @property
    def tls_files(self) -> TlsFiles:
        """What `peerinfer.net.tls` builds its contexts from; other files whenever the CA or the mesh is another."""
        return tls_files(self._folder / self._membership.folder_name)

    @property
    def hint_secrets(self) -> tuple[bytes, ...]:
        """For `discovery_hint`: the one to show, then those that a member may show which slept through rotations."""
        return self.authority.hint_secret, *self._membership.former_hints

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
                leaf=authority.issue(request),
                authority=authority.to_parts(),
                founding=to_der(authority.founding),
                statements=roster.to_wire(),
                addresses=addresses,
            )
        except ValueError as error:
            raise PairingError(f"The node cannot be admitted: {error}.") from None
        self._keep(roster)
        return admission

    def remove(self, node: NodeId) -> None:
        """Removes a member for ever, and makes a new CA whose key it is not given, in one step on disk.

        This node itself can be removed too, as a farewell before `leave`; then the others make the CA. So they do,
        or nobody, if the mesh's CAs are used up (`Authority.is_rotatable`). Send `roster.to_wire()` and the CA around.
        Raises `PairingError` if `node` is no member.
        """
        if not self.roster.is_member(node):
            raise PairingError(f"No member of this mesh has the id {node}; `peerinfer status` lists them.")
        roster = self.roster.removing(self._membership.key, node)
        if node == self.node_id or not self.authority.is_rotatable:
            self._keep(roster)
        else:
            self._rotate(roster)

    def rotate(self) -> None:
        """Makes a new CA that covers every removal known here, as `RotationWatch` says. Give it to all members.

        Raises `RotationsUsedUp` when the mesh can have no other.
        """
        self._rotate(self.roster)

    def give_authority(self, node: NodeId) -> AuthorityParts:
        """The CA with its private key, to be sent to `node` now, over a connection on which that node has proven
        its key. Raises `NotTrusted` unless it is a member at this moment."""
        if not self.roster.is_member(node):
            raise NotTrusted(f"Node {node} is not on this mesh's roster, so it is not given the mesh's CA.")
        return self.authority.to_parts()

    def take_authority(self, parts: AuthorityParts, statements: Iterable[bytes]) -> TrustNews:
        """Takes in the CA that a member gave, if it is to take the place of the one held, and its statements anyway.

        The statements come first: whether the CA may be taken over depends on who was removed.
        """
        roster = self.roster.merged(statements)
        told = roster.statements != self.roster.statements
        try:
            offered = self._checked(parts, roster)
        except ValueError as error:
            offered, refusal = None, str(error)
        else:
            refusal = ""
        if told:
            self._membership, self._is_unsaved = self._membership.with_roster(roster), True
        if offered and replaces(offered.standing, self.authority.standing, roster):
            try:
                self._move(self._membership.under(offered))
            except (OSError, HomeError) as error:
                refusal = f"it could not be written ({error}); check the disk"
            else:
                return TrustNews(told, True, refusal)
        self.save()
        return TrustNews(told, False, refusal)

    def merge_statements(self, statements: Iterable[bytes]) -> bool:
        """Takes in what a peer says of the roster; whether anything was new. Malformed and forged ones are left out."""
        merged = self.roster.merged(statements)
        changed = merged.statements != self.roster.statements
        if changed:
            self._believe(merged)
        return changed

    def save(self) -> None:
        """Writes a roster that could not be written when it was heard; a failure is logged, and tried again."""
        if not self._is_unsaved:
            return
        try:
            self._membership.write_roster(self._folder / self._membership.folder_name)
        except OSError as error:
            log.warning(
                "The roster in %s cannot be written (%s). Check the disk; it counts all the same.", self._folder, error
            )
        else:
            self._is_unsaved = False

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
        _forget_others(self._folder, membership)

    def leave(self) -> None:
        """Begins again as a mesh of one with a *new* node key: a key that was removed can never come back."""
        membership = Membership.founded(SigningKey.create(), self._name)
        _settle(self._folder, membership)
        self._membership = membership
        _forget_others(self._folder, membership)

    def _believe(self, roster: Roster) -> None:
        """A roster that others told counts at once, whatever the disk says: it may speak of a removal."""
        self._membership = self._membership.with_roster(roster)
        self._is_unsaved = True
        self.save()

    def _keep(self, roster: Roster) -> None:
        membership = self._membership.with_roster(roster)
        membership.write_roster(self._folder / membership.folder_name)
        self._membership, self._is_unsaved = membership, False

    def _checked(self, parts: AuthorityParts, roster: Roster) -> Authority:
        """The CA that a member gave. Raises `ValueError` if nobody with this roster may take it over."""
        if self.node_id in roster.removed:
            raise ValueError("this node was removed from the mesh")
        offered = Authority.from_parts(parts, to_der(self.authority.founding))
        check_standing(offered.standing, roster)
        return offered

    def _rotate(self, roster: Roster) -> None:
        authority = self.authority.successor(self._membership.key, roster.removed)
        self._move(self._membership.with_roster(roster).under(authority))

    def _move(self, membership: Membership) -> None:
        """From one CA of the mesh to another; the former one's key is deleted once the new one is durable."""
        _settle(self._folder, membership)
        self._membership, self._is_unsaved = membership, False
        _forget_former(self._folder, membership)


def _settle(folder: Path, membership: Membership) -> None:
    """Writes a membership whole, then lets it count."""
    membership.write(folder / membership.folder_name)
    write_private(folder / _CURRENT, membership.folder_name.encode())


def _forget_others(folder: Path, membership: Membership) -> None:
    """Deletes the private keys of the meshes that this node was in before; the rest stays as an archive."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != membership.folder_name:
            try:
                forget_keys(path)
            except OSError as error:
                log.warning("Keys in %s could not be deleted (%s); it is tried at the next start.", path, error)


def _forget_former(folder: Path, membership: Membership) -> None:
    """Deletes what is left of this node's former CAs in this mesh, and of new ones that a crash left unfinished."""
    for path in folder.glob(f"{membership.family_name}-*"):
        if path.name != membership.folder_name:
            try:
                shutil.rmtree(path)
            except OSError as error:
                log.warning(
                    "The former CA in %s could not be deleted (%s); it is tried at the next start.", path, error
                )


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except FileNotFoundError:
        return None
