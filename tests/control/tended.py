"""A leader with workers that do what it commands, second by second on a clock of their own, and a solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from peerinfer.control.effects import Effects, SolvePlacement
from peerinfer.control.intents import IntentBook
from peerinfer.control.leader import Leader
from peerinfer.control.members import Member
from peerinfer.control.messages import (
    DropStage,
    LoadRequest,
    LoadStage,
    RequestReply,
    StageReport,
    StagesHeld,
    UnloadRequest,
)
from peerinfer.control.state import Instance
from peerinfer.errors import NoPlacement
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import EngineSpeed, HeldStage, Snapshot
from peerinfer.net.effects import SendTo
from peerinfer.net.frames import Epoch
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem
from tests.control.cluster import MESH, MODEL, FakeSigner
from tests.control.led import BALLOT, TOLD, A

Solve = Callable[[Problem], Plan | None]


def greedy(problem: Problem) -> Plan | None:
    """A solver that finds what the quick planner finds."""
    try:
        return place(problem)
    except NoPlacement:
        return None


def runs(layer_us: float, told: Snapshot = TOLD) -> Snapshot:
    """A machine on which a layer of `MODEL` was measured to take so long."""
    rate = MODEL.layer_bytes / layer_us * 1e6
    return replace(told, speeds=(EngineSpeed("llama.cpp", "cpu", "", "", rate, 0.0, 0.0, 1e13, 1),))


@dataclass(slots=True)
class Tended:
    """Node A leads; `told` is what each node says of itself, A among them, and may be changed between seconds."""

    told: dict[str, Snapshot]
    load_s: float = 20.0
    """What loading takes on every node."""
    failing: set[str] = field(default_factory=set[str])
    """Nodes on which every load fails, when it has taken its time."""
    solve: Solve | None = greedy
    """What answers the leader's questions; None: nobody ever does."""
    now: float = 0.0
    leader: Leader = field(init=False)
    commanded: list[tuple[float, Instance]] = field(default_factory=list[tuple[float, Instance]])
    """Each epoch that was commanded, and when."""
    dropped: list[tuple[float, Epoch]] = field(default_factory=list[tuple[float, Epoch]])
    replies: list[RequestReply] = field(default_factory=list[RequestReply])
    asked: list[tuple[float, Problem]] = field(default_factory=list[tuple[float, Problem]])
    questions: list[SolvePlacement] = field(default_factory=list[SolvePlacement])
    tokens: dict[Epoch, int] = field(default_factory=dict[Epoch, int])
    """Computed by each stage of an epoch so far."""
    _loading: dict[tuple[str, Epoch, int], tuple[float, StageReport]] = field(
        default_factory=dict[tuple[str, Epoch, int], tuple[float, StageReport]]
    )

    def __post_init__(self) -> None:
        self.leader = Leader(A, IntentBook(A, MESH, FakeSigner(A)))
        self._take(self.leader.lead(BALLOT, 0.0))
        self._see()
        for node in self.told:
            self._take(self.leader.receive(node, StagesHeld(BALLOT, ()), 0.0))
        self.run(5)

    def run(self, seconds: float) -> None:
        """Time passes."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            self._see()
            self._report()
            questions, self.questions = self.questions, []
            for question in questions if self.solve else ():
                assert self.solve is not None
                self._take(self.leader.solved(question.number, self.solve(question.problem), self.now))
            self._take(self.leader.tick(self.now))

    def ask(self, request: LoadRequest | UnloadRequest, node: str = A) -> list[RequestReply]:
        """Somebody at a node asks; what was answered at once."""
        before = len(self.replies)
        self._take(self.leader.receive(node, request, self.now))
        return self.replies[before:]

    def tell(self, node: str, **changes: object) -> None:
        """A node says something else of itself from now on."""
        self.told[node] = replace(self.told[node], **changes)  # pyright: ignore[reportArgumentType]

    @property
    def epochs(self) -> list[tuple[float, str]]:
        """When each epoch was commanded, and on which nodes, by their letters."""
        return [(at, "".join(one.node[0] for one in instance.stages)) for at, instance in self.commanded]

    def _see(self) -> None:
        held: dict[str, list[HeldStage]] = {node: [] for node in self.told}
        for one in self.leader.instances:
            for number, stage in enumerate(one.stages):
                tokens = self.tokens.get(one.epoch, 0)
                held[stage.node].append(HeldStage(one.id, one.epoch, number, one.state.value, tokens=tokens))
        members = tuple(
            Member(node, node[0], Liveness.ALIVE, replace(told, stages=tuple(held[node])))
            for node, told in sorted(self.told.items())
        )
        self._take(self.leader.see(members, frozenset(self.told), self.now))

    def _report(self) -> None:
        for (node, epoch, number), (due, report) in list(self._loading.items()):
            if self.now >= due:
                del self._loading[node, epoch, number]
                self._take(self.leader.receive(node, report, self.now))

    def _take(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, SolvePlacement):
                self.asked.append((self.now, effect.problem))
                self.questions.append(effect)
            elif isinstance(effect, SendTo):
                self._obey(effect.node, effect.message)

    def _obey(self, node: str, message: object) -> None:
        if isinstance(message, LoadStage):
            one, key = message.instance, (node, message.instance.epoch, message.stage)
            if one.epoch not in [known.epoch for _, known in self.commanded]:
                self.commanded.append((self.now, one))
            state, reason = ("failed", "It cannot.") if node in self.failing else ("ready", "")
            self._loading.setdefault(
                key, (self.now + self.load_s, StageReport(one.id, one.epoch, message.stage, state, reason, 1.0))
            )
        elif isinstance(message, DropStage):
            self.dropped.append((self.now, message.epoch))
            for key in [key for key in self._loading if key[:2] == (node, message.epoch)]:
                del self._loading[key]
        elif isinstance(message, RequestReply):
            self.replies.append(message)
