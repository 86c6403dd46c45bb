"""What a leader knows of those who obey it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from peerinfer.election.ballot import Ballot, Standing

BETTER_FOR_S: Final = 60.0
"""So long must another node be the better leader before this one hands over: batteries and Wi-Fi come and go."""


@dataclass(slots=True)
class Reign:
    """A leader's ballot, and the grants that it holds."""

    ballot: Ballot
    next_heartbeat: float = 0.0
    grants: dict[str, float] = field(default_factory=dict[str, float])
    """When each worker's last grant came (seconds)."""
    standings: dict[str, Standing] = field(default_factory=dict[str, Standing])
    better_since: dict[str, float] = field(default_factory=dict[str, float])

    def workers(self, since: float) -> set[str]:
        """Whose last grant came after `since` (seconds)."""
        return {node for node, at in self.grants.items() if at > since}

    def better_than(self, own: Standing, workers: Collection[str], now: float) -> str | None:
        """The best of those `workers` that stood above `own` for long enough; None if there is none."""
        better = {node for node in workers if self.standings.get(node, Standing()) > own}
        self.better_since = {node: self.better_since.get(node, now) for node in sorted(better)}
        ripe = [node for node, since in self.better_since.items() if now - since >= BETTER_FOR_S]
        return max(ripe, key=lambda node: (self.standings[node], node), default=None)
