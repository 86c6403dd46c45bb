"""Who is a member: signed statements `admit` and `remove`, folded into one roster. Pure.

A roster is a function of the *set* of statements, so any order of merging gives the same one:

1. A `remove` of one who was ever let in stands for ever, once its issuer was ever a member: a chain of admits, removed
   links or not, leads from the founder to both. Two members that remove each other are both out. (A remove that lost
   its force when its own issuer is removed would bring somebody removed back in.)
2. A removed member's admits count only for those whom *every* remove of it names in `keeps`: the members that
   the remover saw it had let in. So what a thief signs with a removed key lets nobody in, even if dated back,
   and those whom a lost laptop had invited stay.
3. A member is who an admit that counts reaches from the founder, and nobody has removed.

What a removed key can still do, should its statements get in through a member that does not know of the removal:
remove others. It could as well have done that before: each member can empty the mesh, none can open it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from peerinfer import names
from peerinfer.identity.keys import ID_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, NodeId, SigningKey, node_id_of, verify
from peerinfer.packing import pack, unpack

MEMBERS_MAX = 256
"""A home or an office; every member holds a link to every other or gossips with it."""
STATEMENTS_MAX = 1024
"""Kept per mesh: four lives of a full mesh. What counts is kept first, and removes before admits, so that neither a
flood of admits nor one of statements by or about strangers hides any."""
ROSTER_MAX_BYTES = 512 * 1024
"""All statements of a mesh: they travel in one message, and with every admission."""
STATEMENT_MAX_BYTES = 8192
"""A remove that keeps 255 members has 4.7 kB."""

FRAME_BYTES = 16
"""What msgpack puts around a statement, at most."""

_DOMAIN = b"peerinfer/roster/v1\0"
_ADMIT = 1
_REMOVE = 2


@dataclass(frozen=True, slots=True)
class Admit:
    """`subject_key` is a member, called `name`."""

    subject_key: bytes
    name: str

    @property
    def subject(self) -> NodeId:
        """Whom it lets in."""
        return node_id_of(self.subject_key)


@dataclass(frozen=True, slots=True)
class Remove:
    """`subject` is no member, for ever; of those whom it let in, `keeps` stay."""

    subject: NodeId
    keeps: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim and who signed it. `body` is the signed bytes as they came: nothing is re-encoded to be verified."""

    body: bytes
    signature: bytes
    issuer_key: bytes
    claim: Admit | Remove

    @classmethod
    def signed(cls, key: SigningKey, mesh_id: str, claim: Admit | Remove) -> Statement:
        """`claim`, stated by the owner of `key` in the mesh `mesh_id`."""
        if isinstance(claim, Admit):
            body = pack([_ADMIT, key.public_key, claim.subject_key, clean_name(claim.name)])
        else:
            keeps = [bytes.fromhex(node) for node in sorted(claim.keeps)]
            body = pack([_REMOVE, key.public_key, bytes.fromhex(claim.subject), keeps])
        return cls.from_bytes(pack([body, key.sign(_signed_text(mesh_id, body))]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """The statement in `data`, its signature not yet checked. Raises `ValueError` for anything else."""
        match unpack(data, STATEMENT_MAX_BYTES):
            case [bytes() as body, bytes() as signature] if len(signature) == SIGNATURE_BYTES:
                issuer_key, claim = _parse(body)
                return cls(body, signature, issuer_key, claim)
            case _:
                raise ValueError("not a roster statement")

    def to_bytes(self) -> bytes:
        """As it travels and is stored."""
        return pack([self.body, self.signature])

    @property
    def issuer(self) -> NodeId:
        """Who states it."""
        return node_id_of(self.issuer_key)

    def is_signed_for(self, mesh_id: str) -> bool:
        """Whether its issuer signed it, for this mesh."""
        return verify(self.issuer_key, self.signature, _signed_text(mesh_id, self.body))


@dataclass(frozen=True, slots=True)
class Member:
    """One who belongs to the mesh."""

    node_id: NodeId
    public_key: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The members of one mesh, and the statements that make them so. A value: `merged` gives a new one."""

    mesh_id: str
    founder: NodeId
    statements: frozenset[Statement]
    members: Mapping[NodeId, Member]
    removed: frozenset[NodeId]

    @classmethod
    def of(cls, mesh_id: str, founder: NodeId, statements: Iterable[Statement] = ()) -> Roster:
        """The roster of this mesh from statements whose signatures were checked."""
        kept = _kept(founder, frozenset(statements))
        removed = _removed(founder, kept)
        members = _members(founder, kept, removed)
        return cls(mesh_id, founder, kept, members, frozenset(removed))

    def merged(self, statements: Iterable[bytes]) -> Roster:
        """This roster with more statements; malformed, foreign and forged ones are left out."""
        fresh: set[Statement] = set()
        for data in statements:
            try:
                statement = Statement.from_bytes(data)
            except ValueError:
                continue
            if statement not in self.statements and statement.is_signed_for(self.mesh_id):
                fresh.add(statement)
        return Roster.of(self.mesh_id, self.founder, self.statements | fresh) if fresh else self

    def admitting(self, key: SigningKey, public_key: bytes, name: str) -> Roster:
        """This roster after the owner of `key` let `public_key` in."""
        statement = Statement.signed(key, self.mesh_id, Admit(public_key, name))
        return Roster.of(self.mesh_id, self.founder, self.statements | {statement})

    def removing(self, key: SigningKey, subject: NodeId) -> Roster:
        """This roster after the owner of `key` removed `subject`; members whom `subject` let in stay."""
        let_in = {s.claim.subject for s in self.statements if isinstance(s.claim, Admit) and s.issuer == subject}
        keeps = tuple(node for node in let_in if node in self.members and node != subject)
        statement = Statement.signed(key, self.mesh_id, Remove(subject, keeps))
        return Roster.of(self.mesh_id, self.founder, self.statements | {statement})

    def is_member(self, node_id: NodeId) -> bool:
        """Whether to talk to this node at all: asked on every connection."""
        return node_id in self.members

    def to_wire(self) -> tuple[bytes, ...]:
        """All statements, in an order that depends on nothing but the set."""
        return tuple(sorted(statement.to_bytes() for statement in self.statements))


def clean_name(text: str) -> str:
    """A member's name fit for a screen; never empty."""
    return names.clean_name(text) or "unnamed"


def _signed_text(mesh_id: str, body: bytes) -> bytes:
    return _DOMAIN + bytes.fromhex(mesh_id) + body


def _parse(body: bytes) -> tuple[bytes, Admit | Remove]:
    """Issuer's key and claim."""
    match cast(list[object], unpack(body, STATEMENT_MAX_BYTES)):
        case [1, bytes() as issuer, bytes() as subject, str() as name] if _are(PUBLIC_KEY_BYTES, issuer, subject):
            return issuer, Admit(subject, clean_name(name))
        case [2, bytes() as issuer, bytes() as subject, keeps] if _are(PUBLIC_KEY_BYTES, issuer):
            nodes = cast(list[object], keeps) if isinstance(keeps, list) else [None]
            if len(nodes) <= MEMBERS_MAX and _are(ID_BYTES, subject, *nodes):
                return issuer, Remove(subject.hex(), tuple(cast(bytes, node).hex() for node in nodes))
        case _:
            pass
    raise ValueError("not a roster claim")


def _are(size: int, *values: object) -> bool:
    return all(isinstance(value, bytes) and len(value) == size for value in values)


def _kept(founder: NodeId, statements: frozenset[Statement]) -> frozenset[Statement]:
    """What is kept of these statements: within the limits, the first by an order that only they decide."""
    ever = _reach(founder, _admits(statements))

    def order(statement: Statement) -> tuple[bool, bool, bytes, bytes]:
        claim = statement.claim
        is_idle = statement.issuer not in ever or (isinstance(claim, Remove) and claim.subject not in ever)
        return is_idle, isinstance(claim, Admit), statement.body, statement.signature

    kept: set[Statement] = set()
    removes: set[tuple[NodeId, NodeId]] = set()
    n_bytes = 0
    for statement in sorted(statements, key=order):
        if isinstance(statement.claim, Remove):
            pair = (statement.issuer, statement.claim.subject)
            if pair in removes:  # nobody needs to remove the same node twice
                continue
            removes.add(pair)
        n_bytes += len(statement.body) + len(statement.signature) + FRAME_BYTES
        if n_bytes > ROSTER_MAX_BYTES or len(kept) >= STATEMENTS_MAX:
            break
        kept.add(statement)
    return frozenset(kept)


def _admits(statements: frozenset[Statement]) -> list[tuple[NodeId, Admit]]:
    return [(statement.issuer, statement.claim) for statement in statements if isinstance(statement.claim, Admit)]


def _reach(founder: NodeId, admits: Iterable[tuple[NodeId, Admit]]) -> dict[NodeId, int]:
    """Nodes that a chain of these admits leads to, each with the length of the shortest."""
    let_in: dict[NodeId, set[NodeId]] = {}
    for issuer, claim in admits:
        let_in.setdefault(issuer, set()).add(claim.subject)
    depth = {founder: 0}
    layer = {founder}
    while layer:
        layer = {subject for node in layer for subject in let_in.get(node, ())} - depth.keys()
        depth |= dict.fromkeys(layer, 1 + max(depth.values()))
    return depth


def _removed(founder: NodeId, statements: frozenset[Statement]) -> dict[NodeId, set[NodeId]]:
    """Who is removed, and which of those whom it let in all its removers keep (rules 1 and 2)."""
    ever = _reach(founder, _admits(statements))
    removed: dict[NodeId, set[NodeId]] = {}
    for statement in statements:
        if isinstance(statement.claim, Remove) and {statement.issuer, statement.claim.subject} <= ever.keys():
            keeps = set(statement.claim.keeps)
            removed[statement.claim.subject] = removed.get(statement.claim.subject, keeps) & keeps
    return removed


def _members(
    founder: NodeId, statements: frozenset[Statement], removed: dict[NodeId, set[NodeId]]
) -> dict[NodeId, Member]:
    """Rule 3. Over the limit, those nearest to the founder stay, then the lowest ids."""
    counted = [
        (issuer, claim)
        for issuer, claim in _admits(statements)
        if issuer not in removed or claim.subject in removed[issuer]
    ]
    depth = _reach(founder, counted)
    found: dict[NodeId, Member] = {}
    for issuer, claim in sorted(counted, key=lambda pair: pair[1].name):
        if issuer in depth and claim.subject not in removed:
            found.setdefault(claim.subject, Member(claim.subject, claim.subject_key, claim.name))
    first = sorted(found, key=lambda node: (depth[node], node))[:MEMBERS_MAX]
    return {node: found[node] for node in sorted(first)}
