"""Whom to dial when: addresses that may lead to members, in the order in which they deserve a try. Pure."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

CANDIDATES_MAX: Final = 256
"""Addresses kept: mDNS and peers can name any number, and each costs dials."""
DIALS_MAX: Final = 8
"""Dials at once."""
FIRST_RETRY_S: Final = 0.5
"""After a link to a member has ended or a first dial failed: a peer that only restarted is back soon."""
RETRY_MAX_S: Final = 30.0
"""Between dials to a member that stays away; and between dials to an address of which nothing is known yet."""
POINTLESS_RETRY_S: Final = 600.0
"""For an address that is this node's own, or whose node refuses it or speaks another version."""
JITTER: Final = 0.25
"""A retry comes up to this part earlier, so that two nodes, or many after a power cut, do not keep in step."""


class Means(enum.IntEnum):
    """How an address became known; a smaller value is tried first."""

    REMEMBERED = 0
    HEARD = 1
    MDNS = 2
    GIVEN = 3


class Failure(enum.Enum):
    """What came of a dial that found no member to link with."""

    UNREACHABLE = enum.auto()
    POINTLESS = enum.auto()


@dataclass(slots=True)
class _Candidate:
    means: Means
    due: float
    node: str | None = None
    failures: int = 0
    dialling: bool = False
    outdated: bool = False
    """The dial under way began before something changed, so what comes of it decides nothing."""

    @property
    def eager(self) -> bool:
        """Whether it is known, or said by the user, to lead to a member."""
        return self.node is not None or self.means is Means.GIVEN


class Candidates:
    """The addresses and their next dials. `connected` tells whether a node has a link; times are monotonic seconds."""

    def __init__(self, own_id: str, connected: Callable[[str], bool], chance: random.Random) -> None:
        self._own_id = own_id
        self._connected = connected
        self._chance = chance
        self._known: dict[str, _Candidate] = {}
        self._removed: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, address: str, means: Means, now: float, node: str | None = None) -> None:
        """Notes an address, and which member it leads to if that is known; a new one is due at once."""
        if node == self._own_id or node in self._removed:
            return
        known = self._known.get(address)
        if known is None:
            if len(self._known) < CANDIDATES_MAX or self._make_room(means):
                self._known[address] = _Candidate(means, now, node)
            return
        if means < known.means and known.means is not Means.GIVEN:
            known.means = means
        known.node = known.node or node  # a dial, not hearsay, decides where it differs

    def take_due(self, now: float) -> tuple[str, ...]:
        """The addresses to dial now, which count as being dialled until `linked` or `failed` is called."""
        taken: list[str] = []
        for address in self._ready():
            candidate = self._known[address]
            if candidate.due > now or len(self._dialling()) >= DIALS_MAX or candidate.node in self._nodes_dialled():
                continue
            candidate.dialling = True
            taken.append(address)
        return tuple(taken)

    def next_due(self) -> float | None:
        """When the next dial is due, if nothing changes; None if none is. It may lie in the past."""
        if len(self._dialling()) >= DIALS_MAX:
            return None
        dialled = self._nodes_dialled()
        ready = (self._known[address] for address in self._ready())
        return min((candidate.due for candidate in ready if candidate.node not in dialled), default=None)

    def linked(self, address: str, node: str, now: float) -> None:
        """A dial found `node`, and there is, or is just being made, a link with it."""
        candidate = self._known.get(address)
        if candidate is None:
            return
        candidate.dialling = candidate.outdated = False
        candidate.node = node
        candidate.failures = 0
        candidate.due = now + FIRST_RETRY_S

    def failed(self, address: str, failure: Failure, now: float) -> None:
        """A dial failed; sets the next."""
        candidate = self._known.get(address)
        if candidate is None:
            return
        candidate.failures += 1
        candidate.due = now + (FIRST_RETRY_S if candidate.outdated else self._pause_s(candidate, failure))
        candidate.dialling = candidate.outdated = False

    def peer_lost(self, node: str, now: float) -> None:
        """The link with `node` has ended: it is dialled again soon."""
        for candidate in self._known.values():
            if candidate.node == node:
                candidate.failures = 0
                candidate.due = now + self._chance.uniform(0.0, FIRST_RETRY_S)

    def reconsider(self, now: float) -> None:
        """Makes every address due: the network, the roster or the machine's sleep has changed what may work."""
        for candidate in self._known.values():
            candidate.failures = 0
            candidate.due = now
            candidate.outdated = candidate.dialling

    def set_removed(self, nodes: Collection[str]) -> None:
        """Names the members that were removed: they are forgotten and never dialled by an address known as theirs."""
        self._removed = frozenset(nodes)
        self._known = {
            address: candidate for address, candidate in self._known.items() if candidate.node not in self._removed
        }

    def _ready(self) -> list[str]:
        """The addresses that are neither being dialled nor of a connected node, the most deserving first."""
        wanted = [(known.means, known.due, address) for address, known in self._known.items() if self._is_wanted(known)]
        return [address for _, _, address in sorted(wanted)]

    def _is_wanted(self, candidate: _Candidate) -> bool:
        return not candidate.dialling and not (candidate.node and self._connected(candidate.node))

    def _dialling(self) -> list[_Candidate]:
        return [candidate for candidate in self._known.values() if candidate.dialling]

    def _nodes_dialled(self) -> set[str]:
        """Nodes of which one address is being dialled: the others wait for what comes of it."""
        return {candidate.node for candidate in self._dialling() if candidate.node}

    def _pause_s(self, candidate: _Candidate, failure: Failure) -> float:
        if failure is Failure.POINTLESS:
            pause_s = POINTLESS_RETRY_S
        elif candidate.eager:
            pause_s = min(RETRY_MAX_S, FIRST_RETRY_S * 2.0 ** min(candidate.failures - 1, 16))
        else:
            return RETRY_MAX_S  # never more often than that to an address that anybody may have named
        return pause_s * (1.0 - JITTER * self._chance.random())

    def _make_room(self, means: Means) -> bool:
        """Forgets a candidate that deserves its place less than one found by `means`; false if there is none."""
        worst = max(
            (
                (candidate.means, candidate.failures, address)
                for address, candidate in self._known.items()
                if self._is_wanted(candidate) and candidate.means is not Means.GIVEN
            ),
            default=None,
        )
        if worst is None or (worst[0], min(worst[1], 1)) <= (means, 0):
            return False
        del self._known[worst[2]]
        return True
