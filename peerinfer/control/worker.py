"""A worker's obedience: it holds the stages that its leader commands, and reports how they are. Pure.

The fence: it obeys a command iff its ballot is the one that this node granted last, its sender that ballot's node, and
its version above the last obeyed under it. So no delayed command of a former leader, and none that was overtaken, is
ever obeyed, and no clock is involved. After a restart no ballot is granted until one above all former is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from peerinfer.control.effects import Effects, StageAssignment, StartStage, StopStage
from peerinfer.control.messages import HELD_MAX, DropStage, HeldPart, Instances, LoadStage, StageReport, StagesHeld
from peerinfer.control.state import Instance, InstanceState
from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.gossip.snapshot import HeldStage
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch

UNWANTED_FOR_S: Final = 15.0
"""A stage that its leader's list does not name for this long is let go: a new leader needs time to learn of it."""
PROGRESS_STEP: Final = 0.01
"""Progress is told by the percent: 100 messages per stage at most."""

Report = Callable[[str, str, float], None]
"""(state `loading` | `ready` | `failed`, reason as a sentence or empty, progress 0 … 1)."""

__all__ = ["HeldStage", "Report", "StageAssignment", "StageKeeper", "Worker"]


class StageKeeper(Protocol):
    """Who really holds stages on this node (the pipeline). Calls return at once; work goes on behind them."""

    def start(self, assignment: StageAssignment, report: Report) -> None:
        """Begins to load a stage; `report` is called from the event loop as it goes, and if it dies later."""
        ...

    def drop(self, instance_id: str, epoch: Epoch) -> None:
        """Lets go of the stage; unknown ones are ignored."""
        ...

    def held(self) -> tuple[HeldStage, ...]:
        """The stages here, with their measurements."""
        ...


@dataclass(slots=True)
class _Holding:
    """A stage that this node was told to hold, and what it said of it last."""

    instance: Instance
    report: StageReport
    unwanted_since: float | None = None

    @property
    def part(self) -> HeldPart:
        last = self.report
        return HeldPart(self.instance, last.stage, last.state, last.reason, last.progress)


class Worker:
    """Obeys one leader at a time."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._leader: str | None = None
        self._ballot: Ballot | None = None
        self.obeyed: tuple[Ballot, int] = (NO_BALLOT, 0)
        """Ballot and version of the last command that was obeyed; they never go back."""
        self._holds: dict[tuple[str, Epoch], _Holding] = {}
        self._wanted: set[tuple[str, Epoch]] | None = None

    def follow(self, leader: str | None, ballot: Ballot | None) -> Effects:
        """Reports to `leader` under `ballot` from now on, and tells it all that is held here."""
        if ballot != self._ballot:
            self._wanted = None
        self._leader, self._ballot = leader, ballot
        return self.report_all()

    def report_all(self) -> Effects:
        """Everything held, to the leader: also when the link with it is new."""
        if self._leader is None or self._ballot is None:
            return ()
        parts = tuple(holding.part for holding in self._holds.values())
        version = self.obeyed[1] if self.obeyed[0] == self._ballot else 0
        return (SendTo(self._leader, StagesHeld(self._ballot, parts[:HELD_MAX], version)),)

    def receive(self, sender: str, message: LoadStage | DropStage, granted: Ballot | None) -> Effects:
        """Obeys a command, or ignores it. `granted` is the ballot that this node granted last in this life."""
        mark = (message.ballot, message.version)
        if sender != message.ballot.node or not self._passes(mark, granted):
            return ()
        self.obeyed = mark
        if isinstance(message, DropStage):
            return self._stop((message.instance, message.epoch))
        return self._start(sender, message.instance, message.stage)

    def _passes(self, mark: tuple[Ballot, int], granted: Ballot | None) -> bool:
        """The fence."""
        return mark[0] == granted and mark > self.obeyed

    def reported(self, instance: str, epoch: Epoch, state: str, reason: str, progress: float) -> Effects:
        """The keeper tells how a stage is."""
        holding = self._holds.get((instance, epoch))
        if holding is None:
            return ()
        last = holding.report
        if state == last.state == "loading" and 0 <= progress - last.progress < PROGRESS_STEP:
            return ()
        holding.report = StageReport(instance, epoch, last.stage, state, reason, progress)
        return () if self._leader is None else (SendTo(self._leader, holding.report),)

    def reconcile(self, known: Instances, now: float) -> Effects:
        """Compares the leader's list with what is held: denies what is not, and marks what nobody wants."""
        if self._leader is None or known.ballot != self._ballot:
            return ()
        live = [one for one in known.instances if one.state is not InstanceState.FAILED]
        self._wanted = {(one.id, one.epoch) for one in live}
        told = tuple(
            SendTo(self._leader, report)
            for one in live
            for number, stage in enumerate(one.stages)
            if one.state is InstanceState.READY and stage.node == self._node
            if (report := self._correction(one, number)) is not None
        )
        return (*told, *self.tick(now))

    def _correction(self, listed: Instance, number: int) -> StageReport | None:
        """What the leader does not know of a stage of this node that it takes for ready."""
        holding = self._holds.get((listed.id, listed.epoch))
        if holding is None:
            reason = "The node does not hold it (it may have restarted)."
            return StageReport(listed.id, listed.epoch, number, "failed", reason)
        return holding.report if holding.report.state == "failed" else None

    def tick(self, now: float) -> Effects:
        """Lets go of stages that the leader's list has not named for a while (its command may be lost)."""
        if self._wanted is None:
            return ()
        stops: Effects = ()
        for key, holding in list(self._holds.items()):
            if key in self._wanted:
                holding.unwanted_since = None
            elif holding.unwanted_since is None:
                holding.unwanted_since = now
            elif now - holding.unwanted_since >= UNWANTED_FOR_S:
                stops += self._stop(key)
        return stops

    def _start(self, leader: str, instance: Instance, stage: int) -> Effects:
        key = (instance.id, instance.epoch)
        mine = 0 <= stage < len(instance.stages) and instance.stages[stage].node == self._node
        if not mine or (key not in self._holds and len(self._holds) >= HELD_MAX):
            return ()
        holding = self._holds.get(key)
        if holding is not None and holding.report.stage == stage:
            return (SendTo(leader, holding.report),)
        stops = self._stop(key) if holding else ()
        report = StageReport(instance.id, instance.epoch, stage, "loading")
        self._holds[key] = _Holding(instance, report)
        return (*stops, StartStage(StageAssignment(instance, stage)), SendTo(leader, report))

    def _stop(self, key: tuple[str, Epoch]) -> Effects:
        return () if self._holds.pop(key, None) is None else (StopStage(*key),)
