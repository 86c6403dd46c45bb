"""The rules of leadership, gossip and intents, each broken on purpose: the simulator must notice every one."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from peerinfer.control import placements
from peerinfer.control.intents import Intent, IntentBook
from peerinfer.control.worker import Worker
from peerinfer.election.ballot import Ballot
from peerinfer.election.effects import Effects
from peerinfer.election.machine import Election
from peerinfer.election.messages import Busy, StaleBallot
from peerinfer.gossip.table import NEVER, SnapshotTable
from peerinfer.net.frames import Epoch
from tests.sim.ground import Disk
from tests.sim.mesh import Outcome, run

_WHOLE_SAVE: Final = Disk._save
SIZES: Final = (3, 5, 2, 7)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule that does not hold any more: `name` of `owner` is replaced."""

    rule: str
    owner: Any
    name: str
    broken: Any


def _obeys_anybody(self: Worker, mark: tuple[Ballot, int], granted: Ballot | None) -> bool:
    return True


def _obeys_old_versions(self: Worker, mark: tuple[Ballot, int], granted: Ballot | None) -> bool:
    return mark[0] == granted


def _saves_later(self: Disk, name: str, value: object) -> None:
    """Says that a promise is on disk when it is not: the next one writes it."""
    if name != "ballot":
        return _WHOLE_SAVE(self, name, value)
    cached: object = self.__dict__.get("_cached", self.ballot)
    self.__dict__["_cached"] = value
    return _WHOLE_SAVE(self, name, cached)


def _saves_no(what: str) -> Callable[[Disk, str, object], None]:
    def save(self: Disk, name: str, value: object) -> None:
        if name != what:
            _WHOLE_SAVE(self, name, value)

    return save


def _refuses(*, leads: bool = True, leases: bool = True, equal: bool = False) -> Any:
    """`Election._refusal` without one of its parts."""

    def refusal(self: Election, ballot: Ballot, now: float) -> Busy | StaleBallot | None:
        self._note(ballot)
        if leads and self._reign is not None:
            return Busy(self._reign.ballot)
        is_leased = self.granted is not None and self.granted.node != ballot.node and now < self._lease_until
        if leases and is_leased and self.granted is not None and (leads or self._reign is None):
            return Busy(self.granted)
        is_above = ballot >= self._promise if equal else ballot > self._promise
        return None if is_above else StaleBallot(self._promise)

    return refusal


def _same_ballot(self: Election) -> Ballot:
    return Ballot(max(1, self._highest), self._node)


def _no_higher_ballot(self: Election, promise: Ballot, now: float) -> Effects:
    self._note(promise)
    return ()


def _released_by_anybody(self: Election, sender: str, ballot: Ballot) -> bool:
    return ballot == self.granted


def _forgets_the_tombstone(self: IntentBook, intent: Intent) -> bytes:
    statement = self._kept[intent.digest].statement
    del self._kept[intent.digest]
    return statement


MUTANTS: Final = (
    Mutant("no fence", Worker, "_passes", _obeys_anybody),
    Mutant("no version", Worker, "_passes", _obeys_old_versions),
    Mutant("no fsync", Disk, "_save", _saves_later),
    Mutant(">= for >", Election, "_refusal", _refuses(equal=True)),
    Mutant("lease ignored", Election, "_refusal", _refuses(leases=False)),
    Mutant("leader grants", Election, "_refusal", _refuses(leads=False)),
    Mutant("ballot reused", Election, "_next_ballot", _same_ballot),
    Mutant("no re-ballot", Election, "_outbid", _no_higher_ballot),
    Mutant("epoch without its ballot", placements, "Epoch", lambda _counter, _node, n: Epoch(0, "", n)),
    Mutant("release taken from anyone", Election, "_may_release", _released_by_anybody),
    Mutant("replayed snapshot accepted", SnapshotTable, "seen", lambda _self, _node: NEVER),
    Mutant("incarnation not on disk", Disk, "_save", _saves_no("incarnation")),
    Mutant("tombstone forgotten", IntentBook, "bury", _forgets_the_tombstone),
    Mutant("intent not on disk", Disk, "_save", _saves_no("intents")),
)


@contextmanager
def broken(mutant: Mutant) -> Generator[None]:
    """The rule does not hold while this is open."""
    with patch.object(mutant.owner, mutant.name, mutant.broken):
        yield


def hunt(mutant: Mutant, runs: int, first_seed: int = 0) -> tuple[int, Outcome | None]:
    """Runs until an invariant breaks: how many runs that took, and the one that did; None if none of them did."""
    chance = random.Random(mutant.rule)
    with broken(mutant):
        for number in range(1, runs + 1):
            outcome = run(chance.choice(SIZES), first_seed + number)
            if outcome.broken:
                return number, outcome
    return runs, None
