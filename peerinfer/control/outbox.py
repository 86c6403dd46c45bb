"""What a leader has to say, gathered in the order in which it must go out: intents, commands, the list, replies."""

from __future__ import annotations

from typing import Final

from peerinfer.control.advice import Advice
from peerinfer.control.effects import Broadcast, Effects, SaveIntents
from peerinfer.control.intents import IntentBook
from peerinfer.control.messages import Ballot, DropStage, Instances, Intents, LoadStage, RequestReply
from peerinfer.control.placed import Placed
from peerinfer.control.state import Instance, InstanceState
from peerinfer.errors import NoLeader
from peerinfer.net.effects import SendTo

ANSWERED_MAX: Final = 256
"""Answers that are kept for requests that come twice: several minutes' worth of a busy mesh."""


class Outbox:
    """Stamps commands and lists with the ballot and a version that only grows; without a ballot it says nothing new."""

    def __init__(self, intents: IntentBook) -> None:
        self.ballot: Ballot | None = None
        self.changed = False
        """Whether the list of instances is another than the one told last."""
        self.is_quiet = False
        """Whether the list is not told yet: a new leader does not know all that stands."""
        self._intents = intents
        self._version = 0
        self._listed = 0
        """Version of the list that was told last: told again, it is no news."""
        self._stated: list[bytes] = []
        self._commands: list[SendTo] = []
        self._replies: list[SendTo] = []
        self._answered: dict[tuple[str, str], SendTo] = {}
        self.advice = Advice()
        """What this leader asked the solver; its questions go out with everything else."""

    def clear(self) -> None:
        """This node leads no more: what was not said stays unsaid."""
        self.ballot, self.changed = None, False
        self._stated, self._commands, self._replies = [], [], []
        self._answered.clear()
        self.advice.clear()

    def state(self, statement: bytes) -> None:
        """An intent that was just minted: it is saved and told before anything else happens."""
        self._stated.append(statement)

    def load(self, placed: Placed, only: str = "", silent_only: bool = False) -> None:
        """Commands the stages that are not ready, on all nodes or one; a worker that holds one just reports again.

        `silent_only` leaves out those whose worker reported: for the others the command may have been lost.
        """
        if self.ballot is None or placed.state is not InstanceState.LOADING or placed.is_adopted:
            return
        for number, stage in enumerate(placed.instance.stages):
            told = placed.told.get(number)
            if told != "ready" and not (silent_only and told) and only in ("", stage.node):
                placed.commanded[number] = self._next_version()
                command = LoadStage(self.ballot, placed.commanded[number], placed.instance, number)
                self._commands.append(SendTo(stage.node, command))

    def drop(self, instance: Instance) -> None:
        """Commands all nodes of an instance to let go of it."""
        if self.ballot is None:
            return
        for node in dict.fromkeys(stage.node for stage in instance.stages):
            command = DropStage(self.ballot, self._next_version(), instance.id, instance.epoch)
            self._commands.append(SendTo(node, command))

    def reply(self, to: str, request_id: str, code: str = "", reason: str = "", instance: str = "") -> None:
        """Answers a request with an error."""
        self._answer(to, RequestReply(request_id, code, reason, instance))

    def acknowledge(self, to: str, request_id: str, instance: str, digest: str) -> None:
        """Answers a request with success, and with the intent that stands now."""
        self._answer(to, RequestReply(request_id, "", "", instance, self._intents.statement(digest)))

    def has_answered(self, to: str, request_id: str) -> bool:
        """Whether this leader answered that request before; then the same answer goes out again."""
        reply = self._answered.get((to, request_id))
        if reply is not None:
            self._replies.append(reply)
        return reply is not None

    def _answer(self, to: str, reply: RequestReply) -> None:
        self._replies.append(SendTo(to, reply))
        if reply.code == NoLeader.code:  # no answer, but the advice to ask again
            return
        self._answered[to, reply.request_id] = self._replies[-1]
        if len(self._answered) > ANSWERED_MAX:
            del self._answered[next(iter(self._answered))]

    def answer(self, placed: Placed, code: str = "", reason: str = "") -> None:
        """Answers everybody who waits for an instance; an empty code means success."""
        for node, request_id in placed.waiting:
            if code:
                self.reply(node, request_id, code, reason, placed.instance.id)
            else:
                self.acknowledge(node, request_id, placed.instance.id, placed.instance.digest)
        placed.waiting.clear()

    def again(self, instances: tuple[Instance, ...], asking: tuple[str, ...]) -> Effects:
        """The list as it stands, for everybody: who missed it has it then, the others have it already."""
        if self.ballot is None or self.is_quiet:
            return ()
        return (Broadcast(Instances(self.ballot, self._listed, instances, asking)),)

    def tell(self, node: str, instances: tuple[Instance, ...]) -> Effects:
        """The list as it stands, for one node."""
        if self.ballot is None or self.is_quiet:
            return ()
        return (SendTo(node, Instances(self.ballot, self._listed, instances)),)

    def empty(self, instances: tuple[Instance, ...]) -> Effects:
        """All that gathered. The list goes before the replies, so who is answered knows already what stands."""
        stated: Effects = ()
        if self._stated:
            stated = (SaveIntents(self._intents.statements), Broadcast(Intents(tuple(self._stated))))
        news: Effects = ()
        if self.changed and self.ballot is not None and not self.is_quiet:
            self._listed = self._next_version()
            news = (Broadcast(Instances(self.ballot, self._listed, instances)),)
            self.changed = False
        effects = (*stated, *self._commands, *news, *self._replies, *self.advice.take_questions())
        self._stated, self._commands, self._replies = [], [], []
        return effects

    def _next_version(self) -> int:
        self._version += 1
        return self._version
