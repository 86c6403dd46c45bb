"""When layers move: what stands is compared with what would be placed now, round by round. Pure.

A lost stage is no matter of this file: it is placed again at once. Here a model that runs well is moved

* at once, before it is lost, where a node is about to go (its lid is closed on battery, it is too hot);
* after a few equal rounds, where an owner wants his machine back, or a memory is nearly full;
* after a few equal rounds and a pause, where another placement is much better and pays back what the move costs.

The old epoch serves until the new one is ready. Where memory does not allow both, it drains first, but only for the
first two reasons: to be better is not worth a pause.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from peerinfer.control.advice import StillPlanning
from peerinfer.control.drawing import Drawn
from peerinfer.control.engines import why_no_longer
from peerinfer.control.intents import Intent, IntentBook
from peerinfer.control.members import Member
from peerinfer.control.placed import Placed
from peerinfer.control.placements import NO_EPOCH, Placements
from peerinfer.control.planning import Wishes, model_of
from peerinfer.control.problems import is_pressed, why_busy, why_leaving, why_unwelcome
from peerinfer.control.state import InstanceState
from peerinfer.control.staying import FAILED, NAMED, NOWHERE, why_otherwise
from peerinfer.errors import NoPlacement, PeerinferError
from peerinfer.gossip.snapshot import HeldModel
from peerinfer.net.frames import Epoch
from peerinfer.placement.costs import fault, predict
from peerinfer.placement.plan import PlacedStage

ROUND_S: Final = 5.0
"""How often what stands is looked at: a plan of a home mesh takes milliseconds."""
ROUNDS: Final = 3
"""Rounds in which the same move must look right: what lasts a moment moves nothing."""
GAIN: Final = 0.20
"""Share of a token's time that a move must save: more than figures err, and than people would not notice."""
PAUSE_S: Final = 120.0
"""What was placed or moved stays at least so long, unless a node must be left."""
AGAIN_S: Final = 15.0
"""Until a move that failed is tried again where a node must be left."""
BETTERED_S: Final = 600.0
"""What was moved to be better is not bettered again for so long: a link that flaps moves nothing to and fro."""
WINDOW_S: Final = 600.0
"""Over which use is measured."""
HORIZON_S: Final = 3600.0
"""A move must pay back within the use of so long, if that goes on as it was."""
TOKENS_MIN: Final = 2000.0
"""Expected of any model that somebody loaded: he will use it."""
DISK_BYTES_PER_S: Final = 300e6
"""At which a stage is read and made ready: a plain SSD."""
WATCHED_MAX: Final = 64
"""Wishes whose rounds are remembered."""

NOW, SOON, ASKED, BETTER = "now", "soon", "asked", "better"
"""Degrees of a reason: not a moment is to be lost; after some rounds; the same, if it can be just as was asked for; if
it pays."""
ORDER: Final = (NOW, SOON, ASKED)


@dataclass(slots=True)
class _Watch:
    """What was seen of one wish in the rounds before."""

    candidate: tuple[tuple[str, int, int], ...] = ()
    rounds: int = 0
    tried_at: float = -math.inf
    """When it was moved last, or that was tried (seconds)."""
    tried: Epoch = NO_EPOCH
    """From which epoch: if that one serves still, the move failed."""
    bettered_at: float = -math.inf
    """The same to be better, and for no other reason."""
    epoch: Epoch = NO_EPOCH
    """Whose tokens are counted."""
    tokens: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    despite: str = ""
    """What speaks against where it stands, and why it stays all the same; empty if nothing does."""

    def is_early(self, epoch: Epoch, degree: str, now: float) -> bool:
        """Whether it was tried just now. Where it was moved since, and must leave a node again, nothing holds it."""
        if epoch != self.tried and degree in (NOW, SOON):
            return False
        return now - self.tried_at < (AGAIN_S if degree == NOW else PAUSE_S)


@dataclass(frozen=True, slots=True)
class Weighed:
    """Two placements of one model against each other."""

    now_us: float
    """Of a token where it stands."""
    then_us: float
    """Of a token where it would be."""
    cost_s: float
    """Bytes to fetch and to load, and prompts to prefill anew."""
    tokens: float
    """Expected within the horizon."""

    @property
    def gain(self) -> float:
        """Share of a token's time that is saved."""
        return 1 - self.then_us / self.now_us if self.now_us > 0 else 0.0

    @property
    def pays(self) -> bool:
        """Whether it saves enough of each token, and more in all than it costs."""
        saved_s = (self.now_us - self.then_us) * self.tokens / 1e6
        return self.gain >= GAIN and saved_s > self.cost_s


class Moves:
    """Looks at everything that is ready, and moves what should be elsewhere."""

    def __init__(self, placements: Placements, intents: IntentBook) -> None:
        self._all = placements
        self._intents = intents
        self._watched: dict[str, _Watch] = {}
        self._round_at = 0.0
        self._open: set[str] = set()
        """Wishes of this round that still wait for the solver."""

    def clear(self) -> None:
        """This node leads no more."""
        self._watched.clear()
        self._open.clear()

    def tick(self, now: float) -> None:
        """A round if it is time, or what is left of one."""
        ready = {one.instance.id: one for one in self._all if self._may_move(one)}
        if now >= self._round_at:
            self._round_at = now + ROUND_S
            self._remember(ready, now)
            self._open = self._watched.keys() & ready.keys()
            self._tell_of_named()
        for name in sorted(self._open & ready.keys()):
            try:
                self._look(ready[name], self._watched[name], now)
            except StillPlanning:
                continue
            except PeerinferError:  # nowhere else to go: it stays
                self._watched[name].rounds = 0
            self._open.discard(name)
            self._tell(ready[name], self._watched[name].despite)

    def _remember(self, ready: dict[str, Placed], now: float) -> None:
        """Notes the use of what is ready. A wish is remembered while it is wanted, also while it moves or fails to."""
        wanted = {intent.id for intent in self._intents.wanted()}
        self._watched = {name: watch for name, watch in self._watched.items() if name in wanted}
        for name, placed in ready.items():
            if name not in self._watched and len(self._watched) >= WATCHED_MAX:
                continue
            watch = self._watched.setdefault(name, _Watch())
            if watch.epoch != placed.instance.epoch:  # another epoch counts its tokens anew
                watch.epoch = placed.instance.epoch
                watch.tokens.clear()
            watch.tokens.append((now, self._all.tokens_of(placed)))
            while now - watch.tokens[0][0] > WINDOW_S:
                watch.tokens.popleft()

    def _tell_of_named(self) -> None:
        """What a person placed on certain nodes is never moved, whatever speaks against them."""
        for placed in self._all:
            intent = self._intents.find(placed.instance.digest)
            if placed.state is InstanceState.READY and intent is not None and intent.stages:
                degree, reason = self._reason(placed, intent)
                self._tell(placed, f"{reason} {NAMED}" if degree in (NOW, SOON) else "")

    def _tell(self, placed: Placed, despite: str) -> None:
        """Says in the list of instances why one stands otherwise than it was asked for, or that no more."""
        intent = self._intents.find(placed.instance.digest)
        if intent is None or placed.state is not InstanceState.READY:
            return
        before = placed.instance.reason
        placed.become(InstanceState.READY, why_otherwise(placed, intent, self._all.members, despite))
        self._all.out.changed |= placed.instance.reason != before

    def _may_move(self, placed: Placed) -> bool:
        intent = self._intents.find(placed.instance.digest)
        if placed.state is not InstanceState.READY or placed.is_adopted or intent is None or not intent.is_wanted:
            return False
        others = [one for one in self._all.of(placed.instance.digest) if one is not placed]
        return intent.id == placed.instance.id and not intent.stages and not others

    def _look(self, placed: Placed, watch: _Watch, now: float) -> None:
        intent = self._intents.find(placed.instance.digest)
        model = model_of(placed.instance.digest, self._all.members)
        if intent is None or model is None:
            return
        degree, reason = self._reason(placed, intent)
        must_leave = degree in (NOW, SOON)
        watch.despite = f"{reason} {NOWHERE}" if must_leave else ""
        if degree == BETTER:
            weighed = self._promise(placed, intent, model, watch, now)
            if weighed is None:
                watch.rounds = 0
                return
            reason = f"A token takes {weighed.gain:.0%} less time there."
        drawn, is_beside = self._candidate(placed, intent, now, must_leave=must_leave)
        watch.despite = ""
        reason = f"{reason} {drawn.forecast.why}".strip() if degree == BETTER else reason
        shape = _shape(drawn)
        same_nodes = [node for node, _, _ in shape] == [node for node, _, _ in watch.candidate]
        watch.rounds = watch.rounds + 1 if same_nodes else 1
        watch.candidate = shape
        if watch.is_early(placed.instance.epoch, degree, now):
            watch.despite = f"{reason} {FAILED}" if must_leave else ""
            return
        if watch.rounds < (1 if degree == NOW else ROUNDS):
            return
        watch.rounds, watch.tried_at, watch.tried = 0, now, placed.instance.epoch
        watch.bettered_at = now if degree == BETTER else watch.bettered_at
        if is_beside:
            self._all.move(placed, intent, drawn, reason, now)
        else:
            self._all.make_room(placed, f"{reason} It moves when its answers have ended.", now)

    def _promise(self, placed: Placed, intent: Intent, model: HeldModel, watch: _Watch, now: float) -> Weighed | None:
        """What the quick planner sees, if it pays: only then is the solver asked, so a mesh at rest leaves it alone."""
        if not self._is_rested(placed, watch, now):
            return None
        drawn = self._all.draw(intent.model, intent.wishes, now, first=intent.first, is_strict=True, is_quick=True)
        weighed = self._weigh(placed, intent, model, drawn, watch)
        return weighed if weighed is not None and weighed.pays else None

    def _reason(self, placed: Placed, intent: Intent) -> tuple[str, str]:
        """The most urgent reason to leave a node of this instance; `BETTER` and nothing if there is none."""
        held = {stage.node: stage.engine for stage in placed.instance.stages}
        here = [member for member in self._all.members if member.node in held]
        told = [(member.name, _reasons(member, held[member.node])) for member in here]
        reasons = [(degree, f"{name} {why}.") for name, each in told for degree, why in each]
        problem = self._all.problem_without(placed, intent)
        known = {node.node for node in problem.nodes} if problem else set[str]()
        if problem is not None and held.keys() <= known and fault(replace(problem, min_nodes=1), _stages(placed)):
            reasons.append((SOON, "A node may hold less of it than it does."))
        if len(held) < intent.min_nodes:
            reasons.append((ASKED, f"It was asked for on at least {intent.min_nodes} nodes."))
        return min(reasons, key=lambda one: ORDER.index(one[0]), default=(BETTER, ""))

    def _candidate(self, placed: Placed, intent: Intent, now: float, *, must_leave: bool) -> tuple[Drawn, bool]:
        """What would be placed now, and whether there is room for both. Raises as `Placements.draw`.

        Where a node must be left, fewer nodes than were asked for will do, and a pause is put up with.
        """
        wishes, leaving = intent.wishes, (placed,)
        ways: list[tuple[Wishes, tuple[Placed, ...]]] = [(wishes, ())]
        if must_leave:
            fewer = replace(wishes, min_nodes=1)
            ways += [(fewer, ()), (wishes, leaving), (fewer, leaving)]
        refused: PeerinferError | None = None
        for wanted, going in ways:
            try:
                drawn = self._all.draw(intent.model, wanted, now, first=intent.first, leaving=going, is_strict=True)
            except StillPlanning:
                raise
            except PeerinferError as error:
                refused = refused or error
            else:
                return drawn, not going
        raise refused or NoPlacement("There is nowhere else to go.")

    def _is_rested(self, placed: Placed, watch: _Watch, now: float) -> bool:
        return now - placed.ready_at >= PAUSE_S and now - watch.bettered_at >= BETTERED_S

    def _weigh(self, placed: Placed, intent: Intent, model: HeldModel, drawn: Drawn, watch: _Watch) -> Weighed | None:
        """Both placements by the same numbers; None where nothing is known of one."""
        problem, before = self._all.problem_without(placed, intent), _stages(placed)
        after = drawn.plan.stages
        if problem is None or problem.policy == "spread" or fault(problem, before) or fault(problem, after):
            return None
        now, then = predict(problem, before), predict(problem, after)
        is_paced = problem.policy == "throughput"
        return Weighed(
            now_us=now.pace_us if is_paced else now.token_us,
            then_us=then.pace_us if is_paced else then.token_us,
            cost_s=_cost_s(placed, model, drawn) + (then.ttft_us or 0.0) / 1e6 * placed.instance.slots,
            tokens=_expected(watch),
        )


def _stages(placed: Placed) -> list[PlacedStage]:
    return [PlacedStage(one.node, one.first_layer, one.last_layer, 0) for one in placed.instance.stages]


def _cost_s(placed: Placed, model: HeldModel, drawn: Drawn) -> float:
    """Seconds to bring the layers where they shall be: over the slowest link that could give them, and from disk."""
    rates = [link.bytes_per_s for link in drawn.problem.links if link.bytes_per_s]
    rate = min(rates, default=DISK_BYTES_PER_S)
    held = {stage.node: (stage.first_layer, stage.last_layer) for stage in placed.instance.stages}
    total = 0.0
    for stage in drawn.plan.stages:
        size = (stage.last_layer - stage.first_layer) * model.layer_bytes
        first, last = held.get(stage.node, (0, 0))
        kept = max(0, min(last, stage.last_layer) - max(first, stage.first_layer)) * model.layer_bytes
        fetched = 0 if stage.node in drawn.problem.holders else size - kept
        total = max(total, fetched / rate + size / DISK_BYTES_PER_S)
    return total


def _reasons(member: Member, engine: str) -> list[tuple[str, str]]:
    """Why a stage in this engine should leave a node, with the degree of each."""
    reasons = [
        (NOW, why_leaving(member)),
        (SOON, why_unwelcome(member)),
        (SOON, why_no_longer(engine, member.snapshot)),
        (SOON, why_busy(member)),
        (SOON, "has hardly any memory left" if is_pressed(member) else ""),
    ]
    return [(degree, why) for degree, why in reasons if why]


def _shape(drawn: Drawn) -> tuple[tuple[str, int, int], ...]:
    return tuple((one.node, one.first_layer, one.last_layer) for one in drawn.stages)


def _expected(watch: _Watch) -> float:
    """Tokens within the horizon, if use goes on as in the window."""
    (began, before), (ended, after) = watch.tokens[0], watch.tokens[-1]
    rate = max(0, after - before) / (ended - began) if ended > began else 0.0
    return max(TOKENS_MIN, rate * HORIZON_S)
