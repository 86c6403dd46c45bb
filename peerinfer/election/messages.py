"""What candidates, leaders and followers say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.election.ballot import Ballot
from peerinfer.net.messages import Tag, message


@message(Tag.LEADER_HEARTBEAT)
@dataclass(frozen=True, slots=True)
class LeaderHeartbeat:
    """Leader → everybody: I lead under this ballot."""

    ballot: Ballot


@message(Tag.STALE_BALLOT)
@dataclass(frozen=True, slots=True)
class StaleBallot:
    """Follower → leader: I follow no ballot under this one; take a higher one."""

    promise: Ballot
