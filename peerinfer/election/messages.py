"""What candidates, leaders and followers say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.election.ballot import Ballot, Standing
from peerinfer.identity.roster import MEMBERS_MAX
from peerinfer.net.messages import Tag, message


@message(Tag.LEADER_HEARTBEAT)
@dataclass(frozen=True, slots=True)
class LeaderHeartbeat:
    """Leader → everybody it sees: I lead under this ballot, so many nodes (I included) obey me."""

    ballot: Ballot
    workers: int = 1

    def __post_init__(self) -> None:
        """Raises `ValueError` for more workers than a mesh can have."""
        if not 1 <= self.workers <= MEMBERS_MAX:
            raise ValueError("a leader with an impossible number of workers")


@message(Tag.PRE_VOTE)
@dataclass(frozen=True, slots=True)
class PreVote:
    """Candidate → everybody it sees: would you grant this ballot? It changes nothing at either side."""

    ballot: Ballot


@message(Tag.WOULD_GRANT)
@dataclass(frozen=True, slots=True)
class WouldGrant:
    """The yes to a `PreVote`."""

    ballot: Ballot


@message(Tag.VOTE_REQUEST)
@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Candidate → everybody it sees: obey me under this ballot."""

    ballot: Ballot


@message(Tag.GRANT)
@dataclass(frozen=True, slots=True)
class Grant:
    """The yes to a `VoteRequest` or a heartbeat: a lease on obedience, and how good a leader I would be."""

    ballot: Ballot
    standing: Standing


@message(Tag.BUSY)
@dataclass(frozen=True, slots=True)
class Busy:
    """The no of a node whose lease on another leader is live, or that leads: that leader's ballot."""

    ballot: Ballot


@message(Tag.STALE_BALLOT)
@dataclass(frozen=True, slots=True)
class StaleBallot:
    """The no of a free node: I promised this ballot, so yours must be above it."""

    promise: Ballot


@message(Tag.RELEASE)
@dataclass(frozen=True, slots=True)
class Release:
    """Leader or candidate → those who granted: you are free of this ballot; `successor` (or empty) may lead next."""

    ballot: Ballot
    successor: str = ""


MESSAGES = (LeaderHeartbeat, PreVote, WouldGrant, VoteRequest, Grant, Busy, StaleBallot, Release)
"""What the machine takes from its peers."""
