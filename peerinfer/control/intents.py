"""What people asked for: one signed register per model, kept by every node. Pure.

An intent is not a placement: it says that a model shall be loaded, and how, or no longer. The newest stamp wins, and
an `unload` leaves a tombstone, so that an older `load` that comes late is not obeyed. Every node keeps all intents on
disk and tells them on, so what was acknowledged outlives the leader that did so, and a reboot.

A statement is msgpack `[body, signer, signature]`; the Ed25519 signature of the node `signer`, at first the one that
minted it, stands over `"peerinfer/intent/v1\\0" ‖ mesh id ‖ body`. A node that learns that the signer was removed signs
the same body itself: a removed node's signature counts no more, yet nothing that people asked for is lost, nor does it
become newer than it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from peerinfer.control.planning import Wishes
from peerinfer.control.state import CONTEXT_MAX, NAME_MAX, SLOTS_MAX, STAGES_MAX, WORD_MAX
from peerinfer.errors import BadFrame
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack

INTENTS_MAX: Final = 256
"""Models that anybody ever loaded; beyond that the oldest tombstones go."""
STATEMENT_MAX_BYTES: Final = 8192
"""64 stages with long names are 6 kB."""
JUMP_MAX: Final = 2**32
"""A counter so far above all that were heard comes from no honest node."""


_DOMAIN: Final = b"peerinfer/intent/v1\0"


class Signer(Protocol):
    """This node's key, and those of the members."""

    def sign(self, data: bytes, /) -> bytes: ...
    def verify(self, node: str, data: bytes, signature: bytes, /) -> bool:
        """Whether `node` is a member now and signed `data`."""
        ...

    def is_member(self, node: str, /) -> bool: ...


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """What orders the intents of one model: the newest wins."""

    counter: int
    node: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What is wanted of one model."""

    stamp: Stamp
    digest: str
    model: str
    id: str
    """Names this wish, and every instance that is placed for it, whoever leads then."""
    is_wanted: bool
    """False for a tombstone."""
    context: int = 1
    slots: int = 1
    policy: str = "latency"
    min_nodes: int = 1
    stages: tuple[tuple[str, int, int], ...] = ()
    first: str = ""
    """The node where the model was asked for: a ring begins there if it can."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what no honest node states."""
        words = (self.stamp.node, self.digest, self.id, self.policy, self.first)
        if any(len(word) > WORD_MAX for word in words) or len(self.model) > NAME_MAX or self.stamp.counter < 0:
            raise ValueError("an intent with impossible words")
        if not "".join((*words, self.model, *(name for name, _, _ in self.stages))).isprintable():
            raise ValueError("an intent whose words cannot be shown")
        if not (
            1 <= self.context <= CONTEXT_MAX and 1 <= self.slots <= SLOTS_MAX and 1 <= self.min_nodes <= STAGES_MAX
        ):
            raise ValueError("an intent with impossible numbers")
        if len(self.stages) > STAGES_MAX or any(len(name) > NAME_MAX for name, _, _ in self.stages):
            raise ValueError("an intent with impossible stages")

    @property
    def wishes(self) -> Wishes:
        """How it shall be loaded."""
        return Wishes(self.digest, self.context, self.slots, self.policy, self.min_nodes, self.stages)


@dataclass(frozen=True, slots=True)
class _Kept:
    intent: Intent
    signer: str
    statement: bytes


@dataclass(frozen=True, slots=True)
class _Read:
    """A statement taken apart, its signature not checked."""

    intent: Intent
    body: bytes
    signer: str
    signature: bytes


class IntentBook:
    """The newest intent of every model, by digest."""

    def __init__(self, node: str, mesh_id: str, signer: Signer, stored: Iterable[bytes] = ()) -> None:
        """`stored` was accepted in a former life: its minters may be removed since."""
        self._node = node
        self._mesh = bytes.fromhex(mesh_id)
        self._signer = signer
        self._kept: dict[str, _Kept] = {}
        self._forgotten = Stamp(-1, "")
        """The newest tombstone that was let go: what is older and unknown may be what it had buried."""
        for statement in stored:
            read = _read(statement)
            if read is not None:
                self._take(read.intent, read.signer, statement)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def statements(self) -> tuple[bytes, ...]:
        """All intents as they are signed, by digest."""
        return tuple(self._kept[digest].statement for digest in sorted(self._kept))

    @property
    def fingerprint(self) -> bytes:
        """16 bytes, equal where two books hold the same intents."""
        stamps = [[digest, *pack_fields(kept.intent.stamp)] for digest, kept in sorted(self._kept.items())]
        return hashlib.sha256(pack(stamps)).digest()[:16]

    def wanted(self) -> tuple[Intent, ...]:
        """What shall be loaded, in the order in which it was asked for."""
        live = [kept.intent for kept in self._kept.values() if kept.intent.is_wanted]
        return tuple(sorted(live, key=lambda intent: intent.stamp))

    def find(self, digest: str) -> Intent | None:
        """What is wanted of a model, or its tombstone."""
        kept = self._kept.get(digest)
        return kept.intent if kept else None

    def statement(self, digest: str) -> bytes:
        """What is wanted of a model, as it is signed; empty if nobody ever loaded it."""
        kept = self._kept.get(digest)
        return kept.statement if kept else b""

    def named(self, wanted: str, *, buried: bool = False) -> tuple[Intent, ...]:
        """The intents of this model name, digest or id that are wanted, or also those that are no longer."""
        known = (kept.intent for kept in self._kept.values() if buried or kept.intent.is_wanted)
        return tuple(one for one in known if wanted in (one.model, one.digest, one.id))

    def mint(self, digest: str, model: str, wishes: Wishes, first: str) -> bytes:
        """States that a model is wanted in this way; the statement, which is in the book now."""
        stamp = self._next_stamp()
        name = hashlib.sha256(f"{digest} {stamp.counter} {stamp.node}".encode()).hexdigest()[:32]
        fresh = Intent(stamp, digest, model, name, True, wishes.context, wishes.slots, wishes.policy)
        return self._sign(replace(fresh, min_nodes=wishes.min_nodes, stages=wishes.stages, first=first))

    def bury(self, intent: Intent) -> bytes:
        """States that a model is no longer wanted; the statement."""
        return self._sign(replace(intent, stamp=self._next_stamp(), is_wanted=False))

    def offer(self, statements: Iterable[bytes]) -> tuple[bytes, ...]:
        """Takes in what others state; those that were new here. Forged, malformed and older ones are left out."""
        return tuple(statement for statement in statements if self._accepts(statement))

    def vouch(self) -> tuple[bytes, ...]:
        """Signs what was signed by those who are members no longer; the new statements of the same intents."""
        orphans = [kept for kept in self._kept.values() if not self._is_backed(kept.signer)]
        return tuple(self._sign(kept.intent) for kept in orphans)

    def _is_backed(self, node: str) -> bool:
        return node == self._node or self._signer.is_member(node)

    def _accepts(self, statement: bytes) -> bool:
        read = _read(statement)
        if read is None or not self._is_news(read):
            return False
        if read.intent.stamp.counter > self._highest() + JUMP_MAX:
            return False
        if not self._signer.verify(read.signer, self._signed_text(read.body), read.signature):
            return False
        return self._take(read.intent, read.signer, statement)

    def _is_news(self, read: _Read) -> bool:
        """Whether it is newer than what is known of its model, or the same under a name that still counts."""
        known = self._kept.get(read.intent.digest)
        if known is None:
            return read.intent.stamp > self._forgotten
        if read.intent == known.intent:
            return not self._is_backed(known.signer)
        return self._is_newer(read.intent.stamp, known.intent.stamp)

    def _is_newer(self, stamp: Stamp, known: Stamp) -> bool:
        return stamp > known

    def _sign(self, intent: Intent) -> bytes:
        body = pack(pack_fields(intent))
        statement = pack([body, self._node, self._signer.sign(self._signed_text(body))])
        self._take(intent, self._node, statement)
        return statement

    def _take(self, intent: Intent, signer: str, statement: bytes) -> bool:
        if intent.digest not in self._kept and len(self._kept) >= INTENTS_MAX and not self._forget_one():
            return False
        self._kept[intent.digest] = _Kept(intent, signer, statement)
        return True

    def _forget_one(self) -> bool:
        """Lets the oldest tombstone go: nobody talks of that model any more."""
        buried = [kept.intent for kept in self._kept.values() if not kept.intent.is_wanted]
        if not buried:
            return False
        oldest = min(buried, key=lambda intent: intent.stamp)
        self._forgotten = max(self._forgotten, oldest.stamp)
        del self._kept[oldest.digest]
        return True

    def _signed_text(self, body: bytes) -> bytes:
        return _DOMAIN + self._mesh + body

    def _highest(self) -> int:
        return max((kept.intent.stamp.counter for kept in self._kept.values()), default=0)

    def _next_stamp(self) -> Stamp:
        return Stamp(self._highest() + 1, self._node)


def _read(statement: bytes) -> _Read | None:
    """The parts of a statement; None for what is none."""
    try:
        body, signer, signature = cast("list[object]", unpack(statement, STATEMENT_MAX_BYTES))
        if not isinstance(body, bytes) or not isinstance(signer, str) or not isinstance(signature, bytes):
            return None
        return _Read(unpack_fields(Intent, unpack(body, STATEMENT_MAX_BYTES)), body, signer, signature)
    except (ValueError, TypeError, BadFrame):
        return None
