"""Why a model that is ready stands otherwise than it was asked for, as a sentence for `status`. Pure."""

from __future__ import annotations

from typing import Final

from peerinfer.control.intents import Intent
from peerinfer.control.members import Members
from peerinfer.control.placed import Placed
from peerinfer.control.problems import why_not_now, why_unwelcome
from peerinfer.gossip.liveness import Liveness

NOWHERE: Final = "It stays, for it fits nowhere else now."
NAMED: Final = "It stays, for its nodes were named when it was loaded."
FAILED: Final = "It stays, for moving it failed; that is tried again in a while."
"""What follows the reason to leave a node."""
ABSENT_MAX: Final = 3
"""Nodes that are named as the reason; more nobody reads."""


def why_otherwise(placed: Placed, intent: Intent, members: Members, despite: str) -> str:
    """The sentence; empty if it stands as it should. `despite` says what speaks against the nodes that it stands on."""
    return " ".join(part for part in (_why_fewer(placed, intent, members), despite) if part)


def _why_fewer(placed: Placed, intent: Intent, members: Members) -> str:
    """That it is on fewer nodes than were asked for, and what keeps those out of which that is known."""
    count = len(set(placed.nodes))
    if count >= intent.min_nodes:
        return ""
    others = [member for member in members if member.node not in placed.nodes]
    told = [
        f"{member.name} {why}"
        for member in others
        if (why := _unreachable(member.state) or why_unwelcome(member) or why_not_now(member))
    ]
    because = f": {'; '.join(told[:ABSENT_MAX])}" if told else ""
    return f"It was asked for on at least {intent.min_nodes} nodes and runs on {count}{because}."


def _unreachable(state: Liveness) -> str:
    return "" if state is Liveness.ALIVE else "is unreachable"
