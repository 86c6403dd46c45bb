"""Gossip on one node: its own signed snapshots, everybody's newest ones, and who is here. Pure.

Own snapshots go to all peers of a full mesh of up to 32 nodes, soon after a change and every 2 s; in a larger one they
go to two by chance, and whoever learns something new passes it on once to two others ("infect and die": Eugster et
al. 2004, "Epidemic information dissemination in distributed systems"). What is lost on the way is found by comparing
tables with one random peer each second (`comparison.py`). Liveness is another matter (`hearing.py`).

What is believed: an envelope whose seal holds for a member of the roster as it is now, with a mark above the greatest
ever seen of that node. It is passed on as the bytes that came. A node that meets a newer mark of itself than its own
(a restored home) takes an incarnation above that, on disk before anybody hears of it.

Every verb returns the effects to be carried out in order. Time is seconds of a monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Final

from peerinfer.errors import LinkError
from peerinfer.gossip.comparison import behind, lacking, marks_in, marks_out
from peerinfer.gossip.effects import Effect, Effects, SaveIncarnation, SnapshotLearned, SnapshotRefused
from peerinfer.gossip.envelope import Envelope, Sign, Verify, check_envelope, read_envelope, seal
from peerinfer.gossip.hearing import Hearing
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.messages import AskHeard, Farewell, GossipDigest, GossipMarks, Heard, SnapshotSealed
from peerinfer.gossip.pace import Pace
from peerinfer.gossip.table import SnapshotTable
from peerinfer.net.effects import SendTo

PUSH_EVERY_S: Final = 2.0
"""A snapshot is never much older than this at a live peer."""
PUSH_GAP_S: Final = 0.25
"""Least time between two pushes, however fast things change."""
RESEAL_EVERY_S: Final = 30.0
"""An unchanged snapshot keeps its seal this long: the same bytes cost a peer no check. Then it is sealed afresh, so
that a peer that forgot it (its roster lacked this node for a while) but keeps its mark takes it again."""
FULL_MESH_MAX: Final = 32
"""Nodes up to which everybody tells everybody: 31 sends of 2 kB each 2 s."""
FANOUT: Final = 2
"""Random peers told in a larger mesh: it reaches 4 of 5, and the comparison of tables the rest."""
COMPARE_EVERY_S: Final = 1.0
"""A round of anti-entropy."""
ANSWER_GAP_S: Final = 0.5
"""Least time between two answers of the same kind to one peer; an honest one compares once a second, with anybody."""
HEARD_GAP_S: Final = 0.1
"""The same for `AskHeard`, which is small, and asked again after half a second at the earliest for each node."""
REFUSED_GAP_S: Final = 10.0
"""Between two reports of refused snapshots from one peer, so that it cannot fill the log."""

Compose = Callable[[], bytes]
"""Gives the payload of this node's snapshot as it is now (`snapshot.encode_snapshot`)."""


class Gossip:
    """The gossip of node `node` in mesh `mesh_id`, started with a durable `incarnation` greater than any before.

    Call `see` before `tick` whenever peers or roster may have changed (it is cheap if they did not), and `tick` every
    quarter of a second or so. `compose` is called at each push.
    """

    def __init__(
        self,
        node: str,
        mesh_id: str,
        incarnation: int,
        *,
        sign: Sign,
        verify: Verify,
        compose: Compose,
        chance: random.Random,
        now: float,
    ) -> None:
        self.table = SnapshotTable()
        self.incarnation = incarnation
        self._node = node
        self._mesh_id = mesh_id
        self._sign = sign
        self._verify = verify
        self._compose = compose
        self._chance = chance
        self._hearing = Hearing(node, chance, now)
        self._pace = Pace()
        self._peers: tuple[str, ...] = ()
        self._members: frozenset[str] | None = None
        self._sequence = 0
        self._payload = b""
        self._own = b""
        """The newest own envelope; empty until the first push of an incarnation."""
        self._sealed_at = now
        self._pushed_at = now - PUSH_EVERY_S
        self._compare_at = now + chance.uniform(0.0, COMPARE_EVERY_S)
        self._changed = False
        self._left = False

    # Questions

    def liveness(self, node: str, now: float) -> Liveness:
        """How `node` stands, by this node's own ears; itself is alive, a stranger gone."""
        return self._hearing.liveness(node, now)

    def was_heard(self, node: str) -> bool:
        """Whether `node` was heard over its own link, ever since this node started."""
        return self._hearing.was_heard(node)

    def direct(self) -> frozenset[str]:
        """The nodes heard over their own links within the last 2 s of listening, without this one."""
        return self._hearing.direct()

    # What happens

    def see(self, peers: Collection[str], members: Collection[str], now: float) -> Effects:
        """The connected peers and the members of the roster (this node among them or not), as they are now."""
        linked = tuple(sorted(set(peers) - {self._node}))
        if linked != self._peers:
            self._peers = linked
        roster = frozenset(members)
        if roster != self._members:
            self._members = roster
            self._hearing.see(roster, now)
            self._pace.keep_only(roster)
            self.table.keep_only(roster | {self._node})
        return ()

    def peer_up(self, node: str, now: float) -> Effects:
        """There is a new link with `node`: it is told this node's snapshot, and the tables are compared."""
        self._peers = tuple(sorted({*self._peers, node} - {self._node}))
        own: Effects = (SendTo(node, SnapshotSealed(self._own)),) if self._own else ()
        if self._pace.allows(node, "up", ANSWER_GAP_S, now):  # a link that flaps costs no comparison each time
            own += (SendTo(node, GossipDigest(self.table.digest)),)
        return own

    def heard(self, node: str, incarnation: int, now: float) -> Effects:
        """Anything came from `node` itself at `now` (or a little earlier), by a link of this incarnation of it."""
        self._hearing.heard(node, incarnation, now)
        return ()

    def announce(self) -> Effects:
        """Something changed here: the next tick pushes, `PUSH_GAP_S` after the last push at the earliest."""
        self._changed = True
        return ()

    def tick(self, now: float) -> Effects:
        """Time goes on: pushes, comparisons and questions about silent nodes that are due."""
        self._hearing.tick(now)
        if self._left:
            return ()
        since_push_s = now - self._pushed_at
        effects: Effects = ()
        if since_push_s >= PUSH_EVERY_S or (self._changed and since_push_s >= PUSH_GAP_S):
            effects = self.push(now)
        if now >= self._compare_at:
            self._compare_at = now + COMPARE_EVERY_S
            effects += self._compare()
        return effects + self._hearing.ask(self._peers)

    def push(self, now: float) -> Effects:
        """Sends this node's snapshot to its peers now, sealed afresh if it changed."""
        self._changed = False
        self._pushed_at = now
        payload = self._compose()
        learnt: Effects = ()
        if not self._own or payload != self._payload or now - self._sealed_at >= RESEAL_EVERY_S:
            learnt = self._seal(payload, now)
        sealed = SnapshotSealed(self._own)
        return (*learnt, *(SendTo(peer, sealed) for peer in self._told(self._peers)))

    def farewell(self, now: float) -> Effects:  # noqa: ARG002  (every verb is told the time)
        """This node stops or goes to sleep: peers count it as gone at once. It says no more until a `wake`."""
        self._left = True
        farewell = Farewell(self.incarnation)
        return tuple(SendTo(peer, farewell) for peer in self._peers)

    def wake(self, now: float) -> Effects:
        """This node slept or stood still: it accuses nobody for a lease. After a farewell it is a new incarnation."""
        self._hearing.wake(now)
        self._changed = True
        if not self._left:
            return ()
        self._left = False
        return self._start_anew(self.incarnation)

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """Takes one of `gossip.messages.MESSAGES` from the peer `sender`; all others are ignored."""
        match message:
            case SnapshotSealed(data):
                return self._take(sender, data, now)
            case GossipDigest(digest):
                return self._compared(sender, digest, now)
            case GossipMarks():
                return self._marks(sender, message, now)
            case AskHeard():
                allowed = self._pace.allows(sender, "heard", HEARD_GAP_S, now)
                return (SendTo(sender, self._hearing.answer(message, now)),) if allowed else ()
            case Heard():
                self._hearing.told(sender, message)
            case Farewell(incarnation):
                self._hearing.left(sender, incarnation, now)
            case _:
                pass
        return ()

    # Snapshots

    def _seal(self, payload: bytes, now: float) -> Effects:
        self._sequence += 1
        self._payload = payload
        self._sealed_at = now
        mark = (self.incarnation, self._sequence)
        self._own = seal(self._mesh_id, self._node, *mark, payload=payload, sign=self._sign)
        snapshot = self.table.offer(read_envelope(self._own))
        return (SnapshotLearned(self._node, snapshot),) if snapshot is not None else ()

    def _take(self, sender: str, data: bytes, now: float) -> Effects:
        try:
            envelope = read_envelope(data)
            if envelope.node == self._node:
                return self._met_itself(envelope)
            if envelope.mark <= self.table.seen(envelope.node):
                return self._old(sender, envelope, now)
            check_envelope(envelope, self._mesh_id, self._verify)
            snapshot = self.table.offer(envelope)
        except LinkError as error:  # BadFrame and NotTrusted: the sender's fault, not ours
            allowed = self._pace.allows(sender, "refused", REFUSED_GAP_S, now)
            return (SnapshotRefused(sender, str(error)),) if allowed else ()
        if snapshot is None:
            return ()
        if sender == envelope.node:
            self._hearing.heard(sender, envelope.incarnation, now)
        return (SnapshotLearned(envelope.node, snapshot), *self._pass_on(sender, envelope))

    def _pass_on(self, sender: str, envelope: Envelope) -> Effects:
        if len(self._peers) < FULL_MESH_MAX:
            return ()
        sealed = SnapshotSealed(envelope.data)
        eligible = [peer for peer in self._peers if peer not in (sender, envelope.node)]
        return tuple(SendTo(peer, sealed) for peer in self._told(eligible))

    def _told(self, peers: Collection[str]) -> Collection[str]:
        """Those of `peers` to whom a snapshot goes."""
        if len(self._peers) < FULL_MESH_MAX or len(peers) <= FANOUT:
            return peers
        return self._chance.sample(tuple(peers), FANOUT)

    def _old(self, sender: str, envelope: Envelope, now: float) -> Effects:
        """Nothing new; but a node that lost its count (a restored home) is shown what it said before."""
        known = self.table.entry(sender)
        if sender != envelope.node or known is None:
            return ()
        if known.envelope.data == envelope.data:  # checked when a third party brought it
            self._hearing.heard(sender, envelope.incarnation, now)
        lost_count = known.envelope.incarnation > envelope.incarnation
        allowed = lost_count and self._pace.allows(sender, "count", ANSWER_GAP_S, now)
        return (SendTo(sender, SnapshotSealed(known.envelope.data)),) if allowed else ()

    def _met_itself(self, envelope: Envelope) -> Effects:
        if envelope.mark <= (self.incarnation, self._sequence):
            return ()
        check_envelope(envelope, self._mesh_id, self._verify)
        self._changed = True
        return self._start_anew(envelope.incarnation)

    def _start_anew(self, above: int) -> Effects:
        self.incarnation = max(self.incarnation, above) + 1
        self._sequence = 0
        self._own = b""
        return (SaveIncarnation(self.incarnation),)

    # Anti-entropy

    def _compare(self) -> Effects:
        if not self._peers:
            return ()
        return (SendTo(self._chance.choice(self._peers), GossipDigest(self.table.digest)),)

    def _compared(self, sender: str, digest: bytes, now: float) -> Effects:
        if digest == self.table.digest or not self._pace.allows(sender, "digest", ANSWER_GAP_S, now):
            return ()
        return (SendTo(sender, marks_out(self.table.marks(), complete=True)),)

    def _marks(self, sender: str, message: GossipMarks, now: float) -> Effects:
        theirs = marks_in(message)
        kind = "marks" if message.complete else "wanted"
        if theirs is None or not self._pace.allows(sender, kind, ANSWER_GAP_S, now):
            return ()
        portion = lacking(self.table, theirs, complete=message.complete, chance=self._chance)
        effects: list[Effect] = [SendTo(sender, SnapshotSealed(data)) for data in portion]
        wanted = behind(self.table, theirs, self._members) if message.complete else {}
        if wanted:
            effects.append(SendTo(sender, marks_out(wanted, complete=False)))
        return tuple(effects)
