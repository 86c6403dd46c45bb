"""Which CA of a mesh counts, and when a member must make the next one. Pure.

A CA *counts* while the member that made it is one. It *covers* the removals that were known to its maker: its key
went to nobody removed by them. All members come to hold the same CA, by three rules over values that they all share
in the end, the roster's statements and the CAs themselves:

1. Of two CAs one takes the place of the other: one that counts before one that does not, then the higher generation,
   then the hash of the certificate (a node restored from a backup may have made two of one generation).
2. A CA is taken over only if its maker is a member, and if the roster proves each removal that it covers. So whoever
   holds a CA knows everybody from whom its key must be kept.
3. A removal that the CA does not cover makes a member, after a while, make a new one, which covers all removals that
   it knows. No CA covers its own maker, so this rule replaces also one whose maker was removed.

They end: once all know the same removals, each new CA covers all of them, and only one is left that nothing replaces.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from peerinfer.identity.keys import NodeId
from peerinfer.identity.roster import Roster

COVER_DELAY_S: Final = 5.0
"""From the first word of a removal until somebody else than the remover makes a CA. The remover's own comes with the
word, over the same link, so a second one after so long is needed: the remover has died, left, or does not know all."""
COVER_STEP_S: Final = 1.0
"""Between one member's turn and the next's, in order of ids: a new CA reaches all linked members well within it."""


@dataclass(frozen=True, slots=True, order=True)
class Generation:
    """Which CA of a mesh: the highest wins. The first is `(1, founder)`; `counter` is its place in the chain."""

    counter: int
    node: NodeId


@dataclass(frozen=True, slots=True)
class Standing:
    """What is compared of two CAs."""

    generation: Generation
    covers: frozenset[NodeId]
    """Removed nodes that never were given its key."""
    digest: bytes
    """SHA-256 of its certificate."""

    def rank(self, roster: Roster) -> tuple[bool, Generation, bytes]:
        """The greatest is the CA that all members come to hold (rule 1)."""
        return roster.is_member(self.generation.node), self.generation, self.digest

    def uncovered(self, roster: Roster) -> frozenset[NodeId]:
        """Removed nodes that may hold its key."""
        return roster.removed - self.covers


def check_standing(standing: Standing, roster: Roster) -> None:
    """Rule 2, for a CA that is offered. Raises `ValueError` with the reason if it must not be taken over.

    An honest CA covers its parent's removals and at least one more. That bounds the counter too: whoever wants to use
    up the generations must remove as many nodes, in statements that everybody sees.
    """
    maker = standing.generation.node
    if maker in roster.removed:
        raise ValueError(f"its maker {maker} was removed from the mesh")
    if not roster.is_member(maker):
        raise ValueError(f"its maker {maker} is no member of the mesh")
    if unproven := standing.covers - roster.removed:
        raise ValueError(f"it speaks of {len(unproven)} removals of which this node has no statement")
    if standing.generation.counter > 1 + len(standing.covers):
        raise ValueError("its generation is higher than the removals that it covers explain")


def replaces(offered: Standing, held: Standing, roster: Roster) -> bool:
    """Whether an offered CA, for which `check_standing` passed, takes the place of the one held (rule 1)."""
    return offered.rank(roster) > held.rank(roster)


class RotationWatch:
    """Rule 3 on one node: says when this node is the one to make the next CA."""

    def __init__(self, own: NodeId) -> None:
        self._own = own
        self._since: dict[NodeId, float] = {}

    def tick(self, held: Standing, roster: Roster, linked: Collection[NodeId], now: float) -> bool:
        """Whether to make a new CA now. `linked`: nodes with a link; `now`: monotonic seconds.

        A node that sees no other member waits, since the generations of a mesh are limited: at its first link it takes
        over what the others have done meanwhile. It does not wait if its CA does not count any more, because two nodes
        whose CAs both do not would take over neither, and so never have a link.
        """
        uncovered = held.uncovered(roster)
        self._since = {node: self._since.get(node, now) for node in uncovered}
        present = sorted({self._own, *linked} & roster.members.keys())
        waits = len(present) == 1 < len(roster.members) and roster.is_member(held.generation.node)
        if self._own not in present or waits:
            return False
        wait_s = COVER_DELAY_S + COVER_STEP_S * present.index(self._own)
        return any(now - since >= wait_s for since in self._since.values())
