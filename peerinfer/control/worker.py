"""A worker's obedience: it holds the stages that its leader commands, and reports how they are. Pure.

It obeys a command iff it comes from the leader it follows, under that leader's ballot, with a version above the last
it obeyed: so no delayed command of a former leader, and none that was overtaken, is ever obeyed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from peerinfer.control.effects import Effects, StageAssignment, StartStage, StopStage
from peerinfer.control.messages import Ballot, DropStage, Instances, LoadStage, StageReport
from peerinfer.control.state import Instance, InstanceState
from peerinfer.election.effects import SendTo
from peerinfer.gossip.snapshot import HeldStage
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

    report: StageReport
    unwanted_since: float | None = None


class Worker:
    """Obeys one leader at a time."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._leader: str | None = None
        self._ballot: Ballot | None = None
        self._obeyed = 0
        self._holds: dict[tuple[str, Epoch], _Holding] = {}
        self._wanted: set[tuple[str, Epoch]] | None = None

    def follow(self, leader: str | None, ballot: Ballot | None) -> Effects:
        """Obeys `leader` under `ballot` from now on, and tells it all that is held here."""
        if ballot != self._ballot:
            self._obeyed = 0
            self._wanted = None
        self._leader, self._ballot = leader, ballot
        return self.report_all()

    def report_all(self) -> Effects:
        """Everything held, to the leader: also when the link with it is new."""
        if self._leader is None:
            return ()
        return tuple(SendTo(self._leader, holding.report) for holding in self._holds.values())

    def receive(self, sender: str, message: LoadStage | DropStage) -> Effects:
        """Obeys a command, or ignores it."""
        fenced = message.ballot == self._ballot and sender == self._leader and message.version > self._obeyed
        if not fenced:
            return ()
        self._obeyed = message.version
        if isinstance(message, DropStage):
            return self._stop((message.instance, message.epoch))
        return self._start(message.instance, message.stage)

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
        ready = [one for one in live if one.state is InstanceState.READY and (one.id, one.epoch) not in self._holds]
        denials = [
            StageReport(one.id, one.epoch, number, "failed", "The node does not hold it (it may have restarted).")
            for one in ready
            for number, stage in enumerate(one.stages)
            if stage.node == self._node
        ]
        return (*(SendTo(self._leader, denial) for denial in denials), *self.tick(now))

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

    def _start(self, instance: Instance, stage: int) -> Effects:
        key = (instance.id, instance.epoch)
        mine = 0 <= stage < len(instance.stages) and instance.stages[stage].node == self._node
        if self._leader is None or not mine:
            return ()
        holding = self._holds.get(key)
        if holding is not None and holding.report.stage == stage:
            return (SendTo(self._leader, holding.report),)
        stops = self._stop(key) if holding else ()
        report = StageReport(instance.id, instance.epoch, stage, "loading")
        self._holds[key] = _Holding(report)
        return (*stops, StartStage(StageAssignment(instance, stage)), SendTo(self._leader, report))

    def _stop(self, key: tuple[str, Epoch]) -> Effects:
        return () if self._holds.pop(key, None) is None else (StopStage(*key),)
