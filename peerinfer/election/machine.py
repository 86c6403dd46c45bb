"""The election on one node: follower, candidate or leader. Pure.

As a worker it grants a ballot iff it is above its promise and no lease on another leader is live here; the promise is
saved before the reply. As a candidate it asks first whether it would win (PreVote), so that a laptop that wakes with
a high counter disturbs nobody. As a leader it renews its leases by heartbeats, takes a higher ballot when a free
worker promised one (`stale`, never `busy`), gives way to a leader with more workers, and hands over to a node that
was better for a minute. `release` frees its workers at once.

After a restart the promise is known but not what was obeyed under it, so that ballot is not obeyed again: the
leader hears `stale` and takes a higher one. So no command needs to be on disk.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from peerinfer.election.ballot import NO_BALLOT, Ballot, Standing
from peerinfer.election.effects import Effects, LeaderChanged, SaveBallot
from peerinfer.election.messages import (
    Busy,
    Grant,
    LeaderHeartbeat,
    PreVote,
    Release,
    StaleBallot,
    VoteRequest,
    WouldGrant,
)
from peerinfer.election.poll import Poll, Turnout
from peerinfer.election.reign import Reign
from peerinfer.net.effects import SendTo

LEASE_S: Final = 3.0
"""How long a grant binds its worker after the last heartbeat: six may be lost."""
HEARTBEAT_S: Final = 0.5
"""A node that joins hears of the leader within this time."""
JITTER_S: Final = 1.5
"""Candidates wait up to this long, by chance, so that they seldom meet; those on mains wait the first half."""
START_S: Final = 1.0
"""A node that starts listens this long at least before it stands: mostly there is a leader already."""
ROUND_S: Final = 0.75
"""For the replies to one round of questions; a LAN needs milliseconds, a busy laptop more."""
JUMP_MAX: Final = 2**32
"""A counter so far above all that were heard comes from no honest node; followed, it could use all counters up."""


class Election:
    """The election on node `node`, whose promise on disk is `promise`. Call `tick` every quarter second or so."""

    def __init__(self, node: str, promise: Ballot, chance: random.Random, now: float) -> None:
        self.leader: str | None = None
        """Whom this node obeys: itself, the holder of its lease, or nobody."""
        self.granted: Ballot | None = None
        """What it promised in this life: the only ballot whose commands it obeys."""
        self._node = node
        self._chance = chance
        self._promise = promise
        self._highest = promise.counter
        self._visible = frozenset({node})
        self._standing = Standing(reach=1)
        self._lease_until = now
        self._released = NO_BALLOT
        self._turnout = Turnout()
        self._round: Poll | None = None
        self._reign: Reign | None = None
        self._stand_at = now + START_S + self._wait_s()

    @property
    def promise(self) -> Ballot:
        """The highest ballot that this node granted, in any life: what must stand on its disk."""
        return self._promise

    @property
    def ballot(self) -> Ballot | None:
        """The ballot under which this node leads or obeys; None while nobody leads it."""
        return self.granted if self.leader is not None else None

    def workers(self, now: float) -> frozenset[str]:
        """Who obeys this node now, itself included; nobody while it does not lead."""
        if self._reign is None:
            return frozenset()
        return frozenset(self._reign.workers(now - LEASE_S) | {self._node})

    def see(self, visible: Collection[str], now: float, *, reach: int, mains: bool = True) -> Effects:
        """The nodes that are here now, this one included; to how many of them it has links, and how it stands."""
        self._visible = frozenset(visible) | {self._node}
        self._standing = Standing(reach, mains)
        return self._won(self._round, now) if self._round is not None and self._has_won(self._round) else ()

    def tick(self, now: float) -> Effects:
        """Heartbeats, leases that ran out, rounds that found no majority, and candidacy when its time has come."""
        if self._reign is not None:
            return self._rule(self._reign, now)
        effects: Effects = ()
        if self.leader is not None and now >= self._lease_until:
            effects = self._forsake(now)
        if self._round is not None and now >= self._round.until:
            effects += self._give_up(self._round, now)
        elif self._round is not None and self._round.is_early:
            self._round.is_early = False
            effects += self._ask(PreVote(self._round.ballot))
        if self._round is None and now >= max(self._lease_until, self._stand_at):
            effects += self._stand(now)
        return effects

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """Takes one of `election.messages.MESSAGES` from a member; what is not its sender's to say is ignored."""
        if self._is_absurd(message):
            return ()
        self._turnout.heard(sender)
        if self._round is not None:
            self._round.answered.add(sender)
        match message:
            case LeaderHeartbeat(ballot, workers) if ballot.node == sender != self._node:
                return self._heard_leader(ballot, workers, now)
            case PreVote(ballot) if ballot.node == sender != self._node:
                refusal = self._refusal(ballot, now)
                return (SendTo(sender, refusal or WouldGrant(ballot)),)
            case VoteRequest(ballot) if ballot.node == sender != self._node:
                return self._asked_for_vote(ballot, now)
            case WouldGrant(ballot) | Grant(ballot):
                return self._supported(sender, message, ballot, now)
            case StaleBallot(promise):
                return self._outbid(promise, now)
            case Busy(ballot):
                self._note(ballot)
                if self._round is not None and not self._round.is_vote and ballot == self._released:
                    self._round.is_early = True
            case Release(ballot, successor) if self._may_release(sender, ballot):
                return self._freed(ballot, successor, now)
            case _:
                pass
        return ()

    def release(self, now: float, successor: str | None = None) -> Effects:
        """Stops leading, or standing, at once and frees who granted; without `successor` the best of them is named."""
        reign = self._reign
        if reign is None:
            return self._give_up(self._round, now) if self._round is not None else ()
        if successor is None:
            obeying = self.workers(now) - {self._node}
            successor = max(obeying, key=lambda node: (reign.standings.get(node, Standing()), node), default="")
        self._reign, self.leader = None, None
        self._lease_until = now
        self._stand_at = now + LEASE_S + self._wait_s()
        told = sorted((self._visible | reign.grants.keys()) - {self._node}, key=lambda node: (node == successor, node))
        return (*(SendTo(node, Release(reign.ballot, successor)) for node in told), LeaderChanged(None, None))

    def wake(self, now: float) -> Effects:
        """This node slept or stood still: what it believed of leaders is old. It leads no more, and listens first."""
        effects = self.release(now)
        if self.leader is not None:
            effects += self._forsake(now)
        self._lease_until = now
        self._stand_at = now + LEASE_S + self._wait_s()
        return effects

    # The worker

    def _refusal(self, ballot: Ballot, now: float) -> Busy | StaleBallot | None:
        """Why this node does not grant `ballot` now; None if it would."""
        self._note(ballot)
        if self._reign is not None:
            return Busy(self._reign.ballot)
        if self.granted is not None and self.granted.node != ballot.node and now < self._lease_until:
            return Busy(self.granted)
        return None if ballot > self._promise else StaleBallot(self._promise)

    def _asked_for_vote(self, ballot: Ballot, now: float) -> Effects:
        refusal = self._refusal(ballot, now)
        if refusal is not None:
            return (SendTo(ballot.node, refusal),)
        left = self._forsake(now) if self.leader is not None else ()
        return (*left, *self._grant(ballot, now), SendTo(ballot.node, Grant(ballot, self._standing)))

    def _heard_leader(self, ballot: Ballot, workers: int, now: float) -> Effects:
        given_way: Effects = ()
        if ballot == self._released:
            return ()
        if self._reign is not None:
            self._note(ballot)
            if (workers, ballot) <= (len(self.workers(now)), self._reign.ballot):
                return ()
            given_way = self.release(now, ballot.node)
        granting: Effects = ()
        if ballot != self.granted:
            refusal = self._refusal(ballot, now)
            if refusal is not None:
                return (*given_way, SendTo(ballot.node, refusal))
            granting = self._grant(ballot, now)
        self._round = None
        self._lease_until = now + LEASE_S
        self._stand_at = self._lease_until + self._wait_s()
        is_news = bool(granting) or self.leader != ballot.node
        self.leader = ballot.node
        ack = SendTo(ballot.node, Grant(ballot, self._standing))
        news = (LeaderChanged(ballot.node, ballot),) if is_news else ()
        return (*given_way, *granting, ack, *news)

    def _grant(self, ballot: Ballot, now: float) -> Effects:
        self._round = None
        self._promise = self.granted = ballot
        self._note(ballot)
        self._lease_until = now + LEASE_S
        self._stand_at = self._lease_until + self._wait_s()
        return (SaveBallot(ballot),)

    def _may_release(self, sender: str, ballot: Ballot) -> bool:
        return sender == ballot.node != self._node and ballot == self.granted

    def _freed(self, ballot: Ballot, successor: str, now: float) -> Effects:
        self._released = ballot
        left = self._forsake(now) if self.leader is not None else ()
        self._lease_until = now
        self._stand_at = now if successor == self._node else now + ROUND_S + self._wait_s()
        return left + (self._stand(now) if successor == self._node else ())

    def _forsake(self, now: float) -> Effects:
        self.leader = None
        self._stand_at = now + self._wait_s()
        return (LeaderChanged(None, None),)

    # The candidate

    def _stand(self, now: float) -> Effects:
        """Asks who would grant; alone it leads at once."""
        self._round = Poll(self._next_ballot(), now + ROUND_S, {self._node: self._standing})
        if self._has_won(self._round):
            return self._won(self._round, now)
        return self._ask(PreVote(self._round.ballot))

    def _supported(self, sender: str, message: WouldGrant | Grant, ballot: Ballot, now: float) -> Effects:
        is_grant = isinstance(message, Grant)
        if self._reign is not None and is_grant and ballot == self._reign.ballot:
            self._reign.grants[sender] = now
            self._reign.standings[sender] = message.standing
        elif self._round is not None and (ballot, is_grant) == (self._round.ballot, self._round.is_vote):
            self._round.votes[sender] = message.standing if isinstance(message, Grant) else Standing()
            if self._has_won(self._round):
                return self._won(self._round, now)
        return ()

    def _has_won(self, asked: Poll) -> bool:
        """More than half of those that it sees and that answer. That damps flapping; safety does not rest on it."""
        voters = self._turnout.voters(self._visible)
        return 2 * len(asked.votes.keys() & voters) > len(voters)

    def _won(self, asked: Poll, now: float) -> Effects:
        """PreVote won: asks for votes, its own first. Vote won: leads."""
        if asked.is_vote:
            return self._lead(asked, now)
        effects = self._grant(asked.ballot, now)
        self._round = Poll(asked.ballot, now + ROUND_S, {self._node: self._standing}, is_vote=True)
        if self._has_won(self._round):
            return (*effects, *self._lead(self._round, now))
        return (*effects, *self._ask(VoteRequest(asked.ballot)))

    def _give_up(self, asked: Poll, now: float) -> Effects:
        """The round found no majority: whoever granted is free again."""
        self._round = None
        self._lease_until = now
        self._stand_at = now + self._wait_s()
        if now >= asked.until:
            self._turnout.count(self._visible - asked.answered - {self._node})
        return self._ask(Release(asked.ballot)) if asked.is_vote else ()

    def _ask(self, question: PreVote | VoteRequest | Release) -> Effects:
        return tuple(SendTo(node, question) for node in sorted(self._visible - {self._node}))

    # The leader

    def _lead(self, won: Poll, now: float) -> Effects:
        self._round = None
        self.leader = self._node
        standings = {node: standing for node, standing in sorted(won.votes.items()) if node != self._node}
        self._reign = Reign(won.ballot, grants=dict.fromkeys(standings, now), standings=standings)
        return (*self._heartbeats(self._reign, now), LeaderChanged(self._node, won.ballot))

    def _rule(self, reign: Reign, now: float) -> Effects:
        heir = reign.better_than(self._standing, self.workers(now) & self._visible - {self._node}, now)
        if heir is not None:
            return self.release(now, heir)
        return self._heartbeats(reign, now) if now >= reign.next_heartbeat else ()

    def _heartbeats(self, reign: Reign, now: float) -> Effects:
        reign.next_heartbeat = now + HEARTBEAT_S
        beat = LeaderHeartbeat(reign.ballot, len(self.workers(now)))
        return tuple(SendTo(node, beat) for node in sorted(self._visible - {self._node}))

    def _outbid(self, promise: Ballot, now: float) -> Effects:
        """A free node promised this ballot before it restarted, or one above: it obeys a higher one only."""
        self._note(promise)
        reign = self._reign
        if reign is not None and promise >= reign.ballot:
            ballot = self._next_ballot()
            reign.ballot = self._promise = self.granted = ballot
            beats = self._heartbeats(reign, now)
            return (SaveBallot(ballot), *beats, LeaderChanged(self._node, ballot))
        if self._round is not None and promise >= self._round.ballot:
            effects = self._give_up(self._round, now)
            return effects if effects else self._stand(now)
        return ()

    # Ballots and chance

    def _note(self, ballot: Ballot) -> None:
        self._highest = max(self._highest, ballot.counter)

    def _next_ballot(self) -> Ballot:
        return Ballot(max(self._highest, self._promise.counter) + 1, self._node)

    def _is_absurd(self, message: object) -> bool:
        told = message.promise if isinstance(message, StaleBallot) else getattr(message, "ballot", NO_BALLOT)
        return told.counter > self._highest + JUMP_MAX

    def _wait_s(self) -> float:
        half = JITTER_S / 2
        return self._chance.uniform(0.0, half) + (0.0 if self._standing.mains else half)
