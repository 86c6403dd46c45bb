"""Requests of this node to the leader, followed until they are answered, over changes of leader and links. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from peerinfer.control.effects import Answered, Effects
from peerinfer.control.messages import LoadRequest, RequestReply, UnloadRequest
from peerinfer.errors import NoLeader, QueueFull, Unavailable
from peerinfer.net.effects import SendTo

NO_LEADER_S: Final = 20.0
"""A leader that went is missed after 10 s, and the next one leads within one more."""
ASK_AGAIN_S: Final = 1.0
"""Pause before a node that does not lead (yet) is asked again."""
REPEAT_S: Final = 5.0
"""A request that is not answered is said again so often: it, or its answer, may be lost."""
ANSWER_S: Final = 3600.0
"""A load that goes on for longer is no longer waited for; the leader itself ends one that makes no progress."""
ASKED_MAX: Final = 64
"""Requests of one node that may wait at once."""


@dataclass(slots=True)
class _Asked:
    message: LoadRequest | UnloadRequest
    since: float
    leaderless_since: float | None
    send_at: float = 0.0
    """When it is said again, if there is a leader."""
    was_refused: bool = False
    """Whether the leader said that it does not lead, or cannot tell yet."""
    was_sent: bool = False


class Asker:
    """Sends each request to whoever leads; a request may be sent twice, and the leader takes it once."""

    def __init__(self) -> None:
        self._leader: str | None = None
        self._asked: dict[str, _Asked] = {}

    def ask(self, message: LoadRequest | UnloadRequest, now: float) -> Effects:
        """Sends a request; `Answered` follows in any case, now or later."""
        if len(self._asked) >= ASKED_MAX:
            return (
                Answered(message.request_id, QueueFull.code, "Too many requests wait already; try again soon.", ""),
            )
        asked = self._asked[message.request_id] = _Asked(message, now, None if self._leader else now)
        return self._send(asked, now)

    def leader_changed(self, leader: str | None, now: float) -> Effects:
        """Asks the new leader everything that is not answered."""
        self._leader = leader
        for asked in self._asked.values():
            asked.leaderless_since = None if leader else now
            asked.was_refused = False
        return self.ask_again(now)

    def ask_again(self, now: float) -> Effects:
        """Sends all that waits once more: the link with the leader is new."""
        return tuple(effect for asked in self._asked.values() for effect in self._send(asked, now))

    def receive(self, sender: str, reply: RequestReply, now: float) -> Effects:
        """Takes the leader's reply."""
        asked = self._asked.get(reply.request_id)
        if asked is None or sender != self._leader:
            return ()
        if reply.code == NoLeader.code:
            asked.send_at, asked.was_refused = now + ASK_AGAIN_S, True
            asked.leaderless_since = now if asked.leaderless_since is None else asked.leaderless_since
            return ()
        del self._asked[reply.request_id]
        return (Answered(reply.request_id, reply.code, reply.reason, reply.instance),)

    def tick(self, now: float) -> Effects:
        """Asks again where it is time, and gives up where it took too long."""
        effects: Effects = ()
        for request_id, asked in list(self._asked.items()):
            if self._is_leaderless(asked) and now - (asked.leaderless_since or now) >= NO_LEADER_S:
                effects += self._give_up(request_id, NoLeader.code, "Nobody leads the mesh at the moment; try again.")
            elif now - asked.since >= ANSWER_S:
                effects += self._give_up(request_id, Unavailable.code, "The leader did not answer; see `status`.")
            elif now >= asked.send_at:
                effects += self._send(asked, now)
        return effects

    def _is_leaderless(self, asked: _Asked) -> bool:
        """Whether nobody took the request: there is no leader, or the one there is said that it does not lead (yet)."""
        return self._leader is None or asked.was_refused

    def _give_up(self, request_id: str, code: str, reason: str) -> Effects:
        del self._asked[request_id]
        return (Answered(request_id, code, reason, ""),)

    def _send(self, asked: _Asked, now: float) -> Effects:
        if self._leader is None:
            return ()
        message = asked.message
        if asked.was_sent and isinstance(message, UnloadRequest):
            message = replace(message, is_repeated=True)
        asked.was_sent, asked.was_refused, asked.send_at = True, False, now + REPEAT_S
        return (SendTo(self._leader, message),)
