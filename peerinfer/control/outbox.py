"""What a leader has to say, gathered in the order in which it must go out: commands, the list, replies."""

from __future__ import annotations

from peerinfer.control.effects import Broadcast, Effects
from peerinfer.control.messages import Ballot, DropStage, Instances, LoadStage, RequestReply
from peerinfer.control.placed import Placed
from peerinfer.control.state import Instance, InstanceState
from peerinfer.election.effects import SendTo


class Outbox:
    """Stamps commands and lists with the ballot and a version that only grows; without a ballot it says nothing new."""

    def __init__(self) -> None:
        self.ballot: Ballot | None = None
        self.changed = False
        """Whether the list of instances is another than the one told last."""
        self._version = 0
        self._commands: list[SendTo] = []
        self._replies: list[SendTo] = []

    def load(self, placed: Placed, only: str = "", silent_only: bool = False) -> None:
        """Commands the stages that are not ready, on all nodes or one; a worker that holds one just reports again.

        `silent_only` leaves out those whose worker reported: for the others the command may have been lost.
        """
        if self.ballot is None or placed.state is not InstanceState.LOADING:
            return
        for number, stage in enumerate(placed.instance.stages):
            heard = silent_only and number in placed.progress
            if number not in placed.ready and not heard and only in ("", stage.node):
                command = LoadStage(self.ballot, self._next_version(), placed.instance, number)
                self._commands.append(SendTo(stage.node, command))

    def drop(self, instance: Instance) -> None:
        """Commands all nodes of an instance to let go of it."""
        if self.ballot is None:
            return
        for node in dict.fromkeys(stage.node for stage in instance.stages):
            command = DropStage(self.ballot, self._next_version(), instance.id, instance.epoch)
            self._commands.append(SendTo(node, command))

    def reply(self, to: str, request_id: str, code: str = "", reason: str = "", instance: str = "") -> None:
        """Answers a request; an empty code means success."""
        self._replies.append(SendTo(to, RequestReply(request_id, code, reason, instance)))

    def answer(self, placed: Placed, code: str = "", reason: str = "") -> None:
        """Answers everybody who waits for an instance."""
        for node, request_id in placed.waiting:
            self.reply(node, request_id, code, reason, placed.instance.id)
        placed.waiting.clear()

    def again(self, instances: tuple[Instance, ...]) -> Effects:
        """The list as it stands, for everybody: who missed it has it then, the others have it already."""
        return () if self.ballot is None else (Broadcast(Instances(self.ballot, self._version, instances)),)

    def tell(self, node: str, instances: tuple[Instance, ...]) -> Effects:
        """The list as it stands, for one node."""
        return () if self.ballot is None else (SendTo(node, Instances(self.ballot, self._version, instances)),)

    def empty(self, instances: tuple[Instance, ...]) -> Effects:
        """All that gathered. The list goes before the replies, so who is answered knows already what stands."""
        news: Effects = ()
        if self.changed and self.ballot is not None:
            news = (Broadcast(Instances(self.ballot, self._next_version(), instances)),)
        effects = (*self._commands, *news, *self._replies)
        self._commands, self._replies, self.changed = [], [], False
        return effects

    def _next_version(self) -> int:
        self._version += 1
        return self._version
