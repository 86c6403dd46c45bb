"""The lowest live node id leads: the simple rule that stands here until the real election does.

Its face is the one that the election keeps: `see`, `tick`, `receive`, `leader`, `ballot`. A new leader takes a
counter above every one it has heard of; a follower obeys only the lowest node it sees, and only under a ballot not
below the last it followed. Two nodes that see different neighbours can still both lead for a while: to rule that out
takes grants and leases, which this rule has not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from peerinfer.election.ballot import Ballot
from peerinfer.election.effects import LeaderChanged, SendTo
from peerinfer.election.messages import LeaderHeartbeat, StaleBallot

HEARTBEAT_S: Final = 0.5
"""A node that joins hears of the leader within this time."""
STARTS: Final = 2**20
"""A counter is `round × STARTS + incarnation`: so no two lives of a node ever mint the same ballot."""
COUNTER_MAX: Final = 2**62
"""Above this a counter is no honest one; it must fit the wire for ever."""

Effects = tuple[SendTo | LeaderChanged, ...]


class LowestLeads:
    """Election by the lowest id. `incarnation` is this node's durable count of starts."""

    def __init__(self, node: str, incarnation: int) -> None:
        self.leader: str | None = None
        """Whom this node obeys; None while it has not heard from the one it should."""
        self.ballot: Ballot | None = None
        """The ballot under which it obeys, or leads."""
        self._node = node
        self._visible = frozenset({node})
        self._incarnation = incarnation % STARTS
        self._promise = Ballot(0, node)
        self._highest = 0
        self._next_heartbeat = 0.0

    def see(self, visible: Collection[str], now: float) -> Effects:
        """The nodes that are here now; this one always is."""
        self._visible = frozenset(visible) | {self._node}
        return self._settle(now)

    def tick(self, now: float) -> Effects:
        """Leads or steps back as the rule says; a leader's heartbeat when it is due."""
        effects = self._settle(now)
        if self.leader != self._node or self.ballot is None or now < self._next_heartbeat:
            return effects
        return effects + self._heartbeats(self.ballot, now)

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """Takes a `LeaderHeartbeat` or a `StaleBallot`; anything else is not for this machine."""
        if isinstance(message, LeaderHeartbeat) and message.ballot.node == sender != self._node:
            return self._heard_leader(message.ballot)
        if isinstance(message, StaleBallot) and self._leads():
            return self._outbid(message.promise, now)
        return ()

    def _leads(self) -> bool:
        return self.leader == self._node

    def _settle(self, now: float) -> Effects:
        rightful = min(self._visible)
        if rightful == self._node:
            return () if self._leads() else self._lead(now)
        if self.leader in (rightful, None):
            return ()
        self.leader, self.ballot = None, None
        return (LeaderChanged(None, None),)

    def _outbid(self, promise: Ballot, now: float) -> Effects:
        """A follower promised more than this leader's ballot: a higher one."""
        if self.ballot is None or promise <= self.ballot or promise.counter > COUNTER_MAX:
            return ()
        self._highest = max(self._highest, promise.counter)
        return self._lead(now)

    def _lead(self, now: float) -> Effects:
        self._highest = (self._highest // STARTS + 1) * STARTS + self._incarnation
        ballot = Ballot(self._highest, self._node)
        self.leader, self.ballot, self._promise = self._node, ballot, ballot
        return (*self._heartbeats(ballot, now), LeaderChanged(self._node, ballot))

    def _heartbeats(self, ballot: Ballot, now: float) -> Effects:
        self._next_heartbeat = now + HEARTBEAT_S
        return tuple(SendTo(node, LeaderHeartbeat(ballot)) for node in sorted(self._visible - {self._node}))

    def _heard_leader(self, ballot: Ballot) -> Effects:
        if ballot.counter > COUNTER_MAX or ballot.node != min(self._visible):
            return ()
        if ballot < self._promise:
            return (SendTo(ballot.node, StaleBallot(self._promise)),)
        self._highest = max(self._highest, ballot.counter)
        changed = (self.leader, self.ballot) != (ballot.node, ballot)
        self.leader, self.ballot, self._promise = ballot.node, ballot, ballot
        return (LeaderChanged(ballot.node, ballot),) if changed else ()
