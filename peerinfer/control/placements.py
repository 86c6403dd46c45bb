"""The instances of one leader: placed, adopted, drained, lost and placed again. Pure; it acts only while it leads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from peerinfer.control.advice import StillPlanning
from peerinfer.control.drawing import Drawn, Table
from peerinfer.control.intents import Intent, IntentBook
from peerinfer.control.members import Members
from peerinfer.control.messages import HeldPart
from peerinfer.control.outbox import Outbox
from peerinfer.control.placed import Key, Placed
from peerinfer.control.planning import Wishes, model_of
from peerinfer.control.problems import Standing, problem_of
from peerinfer.control.state import Instance, InstanceState
from peerinfer.errors import EngineError, NoLeader, NoPlacement, PeerinferError, StageLost
from peerinfer.net.frames import Epoch
from peerinfer.placement.problem import Problem

INSTANCES_MAX: Final = 16
"""More models at once than a home mesh has memory for; each costs a child process on every node of it."""
ADOPTED_MAX: Final = 4 * INSTANCES_MAX
"""Instances that workers may tell a new leader of: those of several halves of a mesh."""
DRAIN_S: Final = 10.0
"""A replaced instance takes no new requests and is dropped when it computed nothing for this long."""
DRAIN_MAX_S: Final = 600.0
"""Longer than any answer that somebody still reads."""
SOUND_AFTER_S: Final = 60.0
"""An instance that was ready for less than this is not placed again at once a second time: something is wrong."""
RETRY_S: Final = 10.0
"""What found no room is tried again so often: a node may have come back. So is, at first, what was lost too soon."""
RETRY_MAX_S: Final = 600.0
"""What is lost again and again waits twice as long each time, up to this: a file may be broken for good."""
SOON_S: Final = 0.5
"""What is too early to place is tried again so often."""

NO_EPOCH: Final = Epoch(0, "", 0)
"""Of what is wanted and was never placed by this leader."""

_LOADING, _READY = InstanceState.LOADING, InstanceState.READY
_DRAINING, _FAILED = InstanceState.DRAINING, InstanceState.FAILED


class Placements:
    """Records by id and epoch. Whatever it has to say goes to `out`."""

    def __init__(self, intents: IntentBook) -> None:
        self.out = Outbox(intents)
        self.members: Members = ()
        self.obeying: frozenset[str] = frozenset()
        """Who obeys this leader and told what it holds: nothing is placed on others."""
        self.is_joining = False
        """Whether somebody who is here may be about to obey: it is too early to settle for fewer nodes."""
        self.has_heard_all = False
        """Whether nobody is left who may hold something that this leader does not know of."""
        self._intents = intents
        self._placed: dict[Key, Placed] = {}
        self._minted = 0

    def __iter__(self) -> Iterator[Placed]:
        return iter(list(self._placed.values()))

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances as they stand."""
        return tuple(placed.instance for placed in self._placed.values())

    def clear(self) -> None:
        """This node leads no more."""
        self._placed.clear()
        self.out.clear()

    def get(self, key: Key) -> Placed | None:
        """The record of an instance in an epoch."""
        return self._placed.get(key)

    def of(self, digest: str) -> list[Placed]:
        """The records of one model, ready ones first, the newest epoch first."""
        same = [placed for placed in self._placed.values() if placed.instance.digest == digest]
        return sorted(same, key=lambda one: (one.state is _READY, one.instance.epoch), reverse=True)

    # Placing

    def place(
        self,
        model: str,
        wishes: Wishes,
        first: str,
        now: float,
        *,
        leaving: Sequence[Placed],
        mint: Callable[[], Intent],
    ) -> Placed:
        """Plans as if `leaving` were gone already, mints the intent once there is a plan, and commands the stages.

        Raises `StillPlanning`, `NoPlacement` or `BadRequest`, with nothing changed.
        """
        drawn = self.draw(model, wishes, now, first=first, leaving=leaving)
        return self._record(mint(), drawn, now)

    def place_wanted(self, intent: Intent, now: float) -> Placed:
        """Places what is wanted as it was asked for, or as near to that as the nodes that are here allow.

        Raises `NoLeader` while that is not known yet, `NoPlacement` or `BadRequest`.
        """
        wishes = intent.wishes
        if any(one.makes_room for one in self._placed.values() if one.instance.digest == intent.digest):
            raise StillPlanning(f"{intent.model} is being moved to other nodes.")
        try:
            drawn = self.draw(intent.model, wishes, now, first=intent.first)
        except StillPlanning:
            raise
        except PeerinferError:
            nearest = replace(wishes, min_nodes=max(1, min(wishes.min_nodes, len(self.obeying))), stages=())
            if self.is_joining:
                raise NoLeader("It is placed as soon as the nodes that are here have joined.") from None
            if nearest == wishes:
                raise
            drawn = self.draw(intent.model, nearest, now, first=intent.first)
        return self._record(intent, drawn, now)

    def draw(
        self,
        model: str,
        wishes: Wishes,
        now: float,
        *,
        first: str = "",
        leaving: Sequence[Placed] = (),
        is_strict: bool = False,
        is_quick: bool = False,
    ) -> Drawn:
        """A plan beside all that stands, but for `leaving`. Raises as `Table.draw`."""
        held = model_of(wishes.digest, self.members)
        if held is None:
            raise NoPlacement(f"No node that is up has the file of {model} any more.")
        staying = [one for one in self._placed.values() if one not in leaving and one.state is not _FAILED]
        if len(staying) >= INSTANCES_MAX:
            raise NoPlacement(f"{INSTANCES_MAX} models are loaded already; unload one first.")
        return Table(self.members, self.obeying, self.out.advice).draw(
            held,
            wishes,
            now,
            standing=[one.instance for one in staying],
            leaving=[one.instance for one in leaving],
            first=first,
            is_strict=is_strict,
            is_quick=is_quick,
        )

    def problem_without(self, placed: Placed, intent: Intent) -> Problem | None:
        """The problem of placing `placed` anew as if it were gone, on all nodes that may; None without a file."""
        held = model_of(placed.instance.digest, self.members)
        if held is None:
            return None
        stays = [one.instance for one in self._placed.values() if one is not placed and one.state is not _FAILED]
        standing = Standing(stays, (placed.instance,))
        return problem_of(held, intent.wishes, self.members, standing, obeying=self.obeying, is_lenient=True)

    def _record(self, intent: Intent, drawn: Drawn, now: float) -> Placed:
        ballot = self.out.ballot
        if ballot is None:
            raise NoPlacement("This node does not lead the mesh any more.")
        self._minted += 1
        instance = Instance(
            id=intent.id,
            model=intent.model,
            digest=intent.digest,
            epoch=Epoch(ballot.counter, ballot.node, self._minted),
            state=_LOADING,
            stages=drawn.stages,
            context=intent.context,
            slots=intent.slots,
            forecast=drawn.forecast,
        )
        placed = Placed(instance, now, now)
        self._placed[placed.key] = placed
        self.out.changed = True
        self.out.load(placed)
        return placed

    def record_failure(self, intent: Intent, reason: str, now: float) -> None:
        """Something wanted that cannot stand now is shown as failed, and tried again in a while."""
        instance = Instance(intent.id, intent.model, intent.digest, NO_EPOCH, _FAILED, (), intent.context, intent.slots)
        placed = self._placed[intent.id, NO_EPOCH] = Placed(instance, now, now, retry_at=now + RETRY_S)
        placed.become(_FAILED, reason)
        self.out.changed = True

    # Moving

    def move(self, placed: Placed, intent: Intent, drawn: Drawn, reason: str, now: float) -> Placed:
        """Places what stands anew beside itself: the old epoch serves until the new one is ready, then it drains."""
        fresh = self._record(intent, drawn, now)
        fresh.replaces = placed.key
        fresh.moves_for = reason
        fresh.become(_LOADING, reason)
        return fresh

    def make_room(self, placed: Placed, reason: str, now: float) -> None:
        """Drains what stands, to be placed anew when it is gone: memory does not allow both at once."""
        self.drain(placed, now)
        placed.become(_DRAINING, reason)
        placed.makes_room = True

    # Adopting

    def adopt(self, part: HeldPart, node: str, now: float) -> Placed | None:
        """The record of what a worker says it holds, new if a former leader placed it; None if that cannot be."""
        key = (part.instance.id, part.instance.epoch)
        placed = self._placed.get(key)
        if placed is None:
            if len(self._placed) >= ADOPTED_MAX:
                return None
            placed = Placed(replace(part.instance, state=_LOADING, reason=""), now, now, is_adopted=True)
            if not placed.is_on(node, part.stage):
                return None
            self._placed[key] = placed
            self.out.changed = True
        return placed if placed.is_on(node, part.stage) else None

    def settle_adopted(self, placed: Placed) -> None:
        """Everybody told of his stage: from now on it is like one of this leader's own."""
        placed.is_adopted = False

    # Changes of state

    def ready(self, placed: Placed, now: float) -> None:
        """All its stages are ready."""
        placed.become(_READY)
        placed.ready_at = now
        placed.is_adopted = False
        self.out.changed = True
        self.out.answer(placed)

    def drain(self, placed: Placed, now: float, reason: str = "") -> None:
        """It takes no new requests; what is under way may end."""
        placed.become(_DRAINING, f"Replaced by another placement. {reason}".strip())
        placed.tokens = self.tokens_of(placed)
        placed.drop_at, placed.drain_until = now + DRAIN_S, now + DRAIN_MAX_S
        self.out.changed = True

    def drained(self, placed: Placed, now: float) -> bool:
        """Whether a draining instance has computed nothing for a while, or drains for too long."""
        if placed.state is not _DRAINING or now < placed.drop_at:
            return False
        tokens = self.tokens_of(placed)
        if tokens == placed.tokens or now >= placed.drain_until:
            return True
        placed.tokens, placed.drop_at = tokens, now + DRAIN_S
        return False

    def remove(self, placed: Placed) -> None:
        """Drops it everywhere and forgets it."""
        if placed.state is not _FAILED:  # a failed one was dropped when it failed
            self.out.drop(placed.instance)
        self._placed.pop(placed.key, None)
        self.out.changed = True

    def lose(self, placed: Placed, reason: str, now: float, *, is_node_lost: bool) -> None:
        """A stage is lost: the instance fails, and is placed again in a new epoch, at once or after a while.

        At once where a node went or a process died that had worked; later where it failed to load, or failed soon.
        """
        was = placed.state
        placed.is_adopted = False
        self.out.drop(placed.instance)
        placed.become(_FAILED, reason)
        self.out.changed = True
        intent = self._intents.find(placed.instance.digest)
        code = StageLost.code if is_node_lost else EngineError.code
        if was is _DRAINING or intent is None or not intent.is_wanted or intent.id != placed.instance.id:
            self.remove(placed)
        elif any(one.is_live for one in self._placed.values() if one.instance.id == intent.id):
            self.remove(placed)  # another epoch of it stands already
        else:
            was_sound = now - placed.ready_at >= SOUND_AFTER_S
            placed.losses = 1 if was_sound else placed.losses + 1
            if placed.losses == 1 and (was is _READY or is_node_lost):
                code = self.again(placed, intent, now)
            else:
                placed.retry_at = now + min(RETRY_MAX_S, RETRY_S * 2 ** (placed.losses - 1))
        if code != NoLeader.code:
            self.out.answer(placed, code, placed.instance.reason)

    def again(self, placed: Placed, intent: Intent, now: float) -> str:
        """Places a failed instance again, in a new epoch; the error code if that is not possible now."""
        try:
            fresh = self.place_wanted(intent, now)
        except PeerinferError as error:
            lost = placed.instance.reason.split(" It could not be placed again: ")[0]
            reason = f"{lost} It could not be placed again: {error}"
            self.out.changed |= reason != placed.instance.reason
            placed.become(_FAILED, reason)
            placed.retry_at = now + (SOON_S if isinstance(error, NoLeader) else RETRY_S)
            return error.code
        self.remove(placed)
        fresh.become(_LOADING, f"{placed.instance.reason} It is being placed again.".strip())
        fresh.losses = placed.losses
        fresh.waiting, placed.waiting = placed.waiting, []
        return ""

    def tokens_of(self, placed: Placed) -> int:
        """Tokens that its stages computed so far, all together."""
        held = [stage for member in self.members for stage in member.stages()]
        return sum(stage.tokens for stage in held if (stage.instance, stage.epoch) == placed.key)
