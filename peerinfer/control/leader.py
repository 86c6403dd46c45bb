"""The leader's duties: that what people asked for stands, and nothing else. Pure; it acts only while it has a ballot.

A new leader begins with nothing but the intents. Its workers tell what they hold, and it adopts what is whole: same
epoch, every stage told. Silence is not absence until a node is gone; what is then still missing a stage is broken,
and only that is placed again, under the same id and a new epoch. Where two halves of a mesh had placed the same
model, the newest ready one stays and the other drains. What fails is placed again, soon or after a longer and longer
while (`placements.py`).
"""

from __future__ import annotations

import math
from typing import Final

from peerinfer.control.effects import Effects
from peerinfer.control.intents import Intent, IntentBook
from peerinfer.control.members import Member, Members, named
from peerinfer.control.messages import Ballot, HeldPart, LoadRequest, StageReport, StagesHeld, UnloadRequest
from peerinfer.control.moves import Moves
from peerinfer.control.placed import Placed
from peerinfer.control.placements import Placements
from peerinfer.control.state import Instance, InstanceState
from peerinfer.control.wish_desk import WishDesk
from peerinfer.errors import NoLeader, NoPlacement, PeerinferError
from peerinfer.gossip.liveness import Liveness
from peerinfer.placement.plan import Plan

STALLED_AFTER_S: Final = 600.0
"""Loading without any progress for this long has failed: even a slow disk reports progress before."""
RETELL_S: Final = 2.0
"""What a follower missed, because it did not follow yet, reaches it within this time."""
QUIET_S: Final = 5.0
"""A load of which nothing was heard for so long is asked about: the report that it is ready may be lost."""
JOIN_S: Final = 3.0
"""A node that is here follows within this time, unless it obeys another leader."""
SILENCE_MAX_S: Final = 12.0
"""A leader waits no longer for one who came and may hold something: after 10 s a silent node is gone."""
UNKNOWN_S: Final = 10.0
"""An instance that no intent names is kept so long: the intent may be on its way."""

_LOADING, _READY, _FAILED = InstanceState.LOADING, InstanceState.READY, InstanceState.FAILED


class Leader:
    """The duties of node `node` while it leads."""

    def __init__(self, node: str, intents: IntentBook) -> None:
        self._node = node
        self._intents = intents
        self._all = Placements(intents)
        self._out = self._all.out
        self._desk = WishDesk(intents, self._all)
        self._moves = Moves(self._all, intents)
        self._members: Members = ()
        self._heard: set[str] = set()
        """Workers that told under this leader what they hold."""
        self._workers: frozenset[str] = frozenset()
        self._here_since: dict[str, float] = {}
        """Since when each node that is alive is so."""
        self._present_since: dict[str, float] = {}
        """Since when each node that is not gone is not: it may be silent for a while."""
        self._gone_since: dict[str, float] = {}
        self._led_at = 0.0
        self._retell_at = 0.0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances as they stand."""
        return self._all.instances

    def lead(self, ballot: Ballot, now: float) -> Effects:
        """Leads under `ballot` from now on: anew, or with a higher one than before."""
        if self._out.ballot is None:
            self._led_at = now
            self._heard.clear()
            self._out.is_quiet = self._all.is_joining = True
        self._out.ballot = ballot
        self._out.changed = True
        for placed in self._all:  # nobody obeys a command of the ballot before any more: what a worker lacks is missing
            placed.commanded.clear()
        return self._out.empty(self.instances)

    def resign(self) -> None:
        """Somebody else leads, or nobody. Those who wait ask the next leader themselves."""
        self._all.clear()
        self._desk.clear()
        self._moves.clear()
        self._heard.clear()

    def see(self, members: Members, workers: frozenset[str], now: float) -> Effects:
        """The members as they are now, and who obeys: what stood on a node that is gone is lost."""
        self._members = self._all.members = members
        alive = {member.node for member in members if member.state is Liveness.ALIVE}
        self._here_since = {node: self._here_since.get(node, now) for node in sorted(alive)}
        present = {member.node for member in members if member.state is not Liveness.GONE}
        self._present_since = {node: self._present_since.get(node, now) for node in sorted(present)}
        gone = {member.node for member in members} - present - {self._node}
        self._gone_since = {node: self._gone_since.get(node, now) for node in sorted(gone)}
        if self._out.ballot is None:
            return ()
        self._workers = workers
        self._heard &= workers
        self._look_who_obeys(now)
        for placed in self._all:
            away = set(placed.nodes) - present - {self._node}
            lost = {node for node in away if not self._may_come(placed, node, now)}
            if lost and placed.state is not _FAILED:
                reason = f"{named(members, min(lost))}, which held a stage of it, is gone."
                self._all.lose(placed, reason, now, is_node_lost=True)
        return self._out.empty(self.instances)

    def peer_up(self, node: str) -> Effects:
        """A link is new: what was on its way over an older one may be lost, so it is said again."""
        own = [placed for placed in self._all if placed.state is _LOADING and not placed.is_adopted]
        for placed in own:  # of what was adopted, silence would mean that it is lost
            placed.forget(node)
            self._out.load(placed, only=node)
        return (*self._out.empty(self.instances), *self._out.tell(node, self.instances))

    def tick(self, now: float) -> Effects:
        """Compares what stands with what is wanted, and says again what may be lost."""
        if self._out.ballot is None:
            return ()
        self._look_who_obeys(now)
        is_due = now >= self._retell_at
        for placed in self._all if is_due else ():
            self._out.load(placed, silent_only=True)
        for placed in self._all:
            self._look_at(placed, now)
        for intent in self._intents.wanted():
            self._settle(intent, now)
        self._desk.look_again(now)
        if self._all.has_heard_all:
            self._moves.tick(now)
        if not is_due:
            return self._out.empty(self.instances)
        self._retell_at = now + RETELL_S
        asking = (self._workers - self._heard) | {node for placed in self._all for node in placed.quiet(now - QUIET_S)}
        return (*self._out.empty(self.instances), *self._out.again(self.instances, tuple(sorted(asking))))

    def solved(self, number: int, plan: Plan | None, now: float) -> Effects:
        """The solver answered a question; None if it has no plan. Requests that wait for it are served at once."""
        if self._out.ballot is None or not self._out.advice.answered(number, plan):
            return ()
        self._desk.look_again(now)
        return self._out.empty(self.instances)

    def receive(self, sender: str, message: object, now: float) -> Effects:
        """Takes `LoadRequest`, `UnloadRequest`, `StagesHeld` and `StageReport`."""
        if isinstance(message, (LoadRequest, UnloadRequest)):
            self._desk.receive(sender, message, now)
        elif isinstance(message, StagesHeld) and message.ballot == self._out.ballot:
            self._held(sender, message, now)
        elif isinstance(message, StageReport) and self._out.ballot is not None:
            placed = self._all.get((message.instance, message.epoch))
            if placed is not None and placed.is_on(sender, message.stage):
                self._report(placed, message, now)
        return self._out.empty(self.instances)

    # What workers tell

    def _held(self, sender: str, told: StagesHeld, now: float) -> None:
        """All that a worker holds. What it does not name, it does not hold."""
        self._heard.add(sender)
        self._look_who_obeys(now)
        named_here: set[tuple[tuple[str, object], int]] = set()
        for part in told.parts:
            placed = self._all.adopt(part, sender, now)
            if placed is not None:
                named_here.add((placed.key, part.stage))
                self._report(placed, part, now)
        for placed in self._all:
            for number, stage in enumerate(placed.instance.stages):
                is_told = (placed.key, number) in named_here or placed.commanded.get(number, 0) > told.version
                if stage.node == sender and not is_told:
                    self._missing(placed, sender, now)

    def _missing(self, placed: Placed, node: str, now: float) -> None:
        """A worker does not hold its stage. If it was told to load it just now, it is told again in a moment."""
        if placed.state is _LOADING and not placed.is_adopted:
            placed.forget(node)
        elif placed.state is not _FAILED:
            reason = f"{named(self._members, node)} holds its stage no more (it may have restarted)."
            self._all.lose(placed, reason, now, is_node_lost=True)

    def _report(self, placed: Placed, told: StageReport | HeldPart, now: float) -> None:
        if placed.state is _FAILED:
            return
        if told.state not in ("loading", "ready"):
            node = named(self._members, placed.instance.stages[told.stage].node)
            reason = f"Stage {told.stage} on {node} failed. {told.reason}".strip()
            self._all.lose(placed, reason, now, is_node_lost=False)
            return
        placed.note(told.stage, told.state, told.progress, now)
        if placed.is_whole and placed.state is _LOADING:
            self._all.ready(placed, now)

    # What time brings

    def _look_at(self, placed: Placed, now: float) -> None:
        """Ends what nobody wants, what has drained or stalled, and tests what was adopted."""
        intent = self._intents.find(placed.instance.digest)
        is_unwanted = now - placed.moved_at > UNKNOWN_S if intent is None else not intent.is_wanted
        if is_unwanted or self._all.drained(placed, now):
            self._out.answer(placed, NoPlacement.code, f"{placed.instance.model} was unloaded.")
            self._all.remove(placed)
        elif placed.is_adopted:
            self._test(placed, now)
        elif placed.state is _LOADING and now - placed.moved_at > STALLED_AFTER_S:
            reason = f"Loading made no progress for {STALLED_AFTER_S / 60:.0f} minutes; see the logs of its nodes."
            self._all.lose(placed, reason, now, is_node_lost=False)

    def _test(self, placed: Placed, now: float) -> None:
        """What a former leader placed: is every stage still there? A node of another leader is known by gossip."""
        for number in placed.silent:
            member = self._member(placed.instance.stages[number].node)
            state = "" if member is None else _gossiped(member, placed, number)
            if state in ("loading", "ready") and member is not None and member.node not in self._heard:
                self._report(placed, HeldPart(placed.instance, number, state), now)
            elif self._is_lost(placed, number, now):
                name = named(self._members, placed.instance.stages[number].node)
                self._all.lose(placed, f"{name} does not hold its stage.", now, is_node_lost=True)
                return
        if not placed.silent:
            self._all.settle_adopted(placed)

    def _is_lost(self, placed: Placed, number: int, now: float) -> bool:
        """Whether a stage of which nobody told is known to be held by nobody."""
        node = placed.instance.stages[number].node
        return node in self._heard or (self._all.has_heard_all and not self._may_come(placed, node, now))

    def _may_come(self, placed: Placed, node: str, now: float) -> bool:
        """Whether a node that was gone when its neighbour in the ring told of the instance may be about to come too."""
        was_gone = self._gone_since.get(node, math.inf) <= placed.placed_at
        return placed.is_adopted and was_gone and now - placed.placed_at < SILENCE_MAX_S

    def _settle(self, intent: Intent, now: float) -> None:
        """Sees to it that exactly one placement of what is wanted stands."""
        same = self._all.of(intent.digest)
        current = [placed for placed in same if placed.instance.id == intent.id]
        best = next((placed for placed in current if placed.is_live), None)
        if best is None:
            self._settle_missing(intent, [placed for placed in current if placed.state is _FAILED], now)
        elif best.state is _READY:
            for placed in same:
                if placed is not best and placed.state is _FAILED:
                    self._all.remove(placed)
                elif placed is not best and placed.is_live and placed.replaces != best.key:
                    best.waiting, placed.waiting = placed.waiting, []
                    self._out.answer(best)
                    self._all.drain(placed, now, best.moves_for)

    def _settle_missing(self, intent: Intent, failed: list[Placed], now: float) -> None:
        if failed:
            if now >= failed[0].retry_at:
                self._all.again(failed[0], intent, now)
        elif self._all.has_heard_all:
            try:
                self._all.place_wanted(intent, now)
            except NoLeader:
                return  # in a moment
            except PeerinferError as error:
                self._all.record_failure(intent, str(error), now)

    def _look_who_obeys(self, now: float) -> None:
        self._all.obeying = frozenset(self._heard)
        self._all.is_joining = self._is_joining(now)
        self._all.has_heard_all = self._has_heard_all(now)
        self._out.is_quiet &= self._all.is_joining

    def _is_joining(self, now: float) -> bool:
        """Whether somebody who is here may still be about to follow."""
        unheard = self._here_since.keys() - self._heard
        return any(now - max(self._here_since[node], self._led_at) < JOIN_S for node in unheard)

    def _has_heard_all(self, now: float) -> bool:
        """Whether nobody is left who may hold something that this leader does not know of."""
        silent = self._present_since.keys() - self._heard
        waited = all(now - max(self._present_since[node], self._led_at) >= SILENCE_MAX_S for node in silent)
        return self._node in self._heard and waited

    def _member(self, node: str) -> Member | None:
        return next((member for member in self._members if member.node == node), None)


def _gossiped(member: Member, placed: Placed, number: int) -> str:
    """What a node told everybody of a stage; empty if it is not alive or did not name it."""
    if member.state is not Liveness.ALIVE:
        return ""
    held = (one for one in member.stages() if (one.instance, one.epoch, one.stage) == (*placed.key, number))
    return next((one.state for one in held), "")
