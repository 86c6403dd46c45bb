"""Keeps roster and CA of all members the same: told on every new link, and again whenever something new was heard.

The roster goes to every peer, the CA to members only, behind the roster: a receiver takes a CA over only where it
knows the removals that the CA is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from peerinfer.clock import Clock, monotonic
from peerinfer.errors import LinkError, PeerinferError, RotationsUsedUp
from peerinfer.identity.storage import Identity, TrustNews
from peerinfer.identity.succession import RotationWatch
from peerinfer.net.authority_messages import AuthorityHeld, RotatedAuthority
from peerinfer.net.link_messages import GoodbyeReason
from peerinfer.net.roster_message import RosterStatements
from peerinfer.net.switchboard import Switchboard

TICK_S: Final = 1.0
"""Between looks at whether this node must make a new CA: a fraction of the delay after which it must."""

TELL_GAP_S: Final = 0.5
"""Least time between two tellings of what peers said: a flood of statements is passed on as one."""

log = logging.getLogger(__name__)


class RosterExchange:
    """Sends statements and the CA, takes in those of others, and ends the links of members that were removed."""

    def __init__(
        self,
        identity: Identity,
        switchboard: Switchboard,
        on_change: Callable[[], None],
        clock: Clock = monotonic,
    ) -> None:
        self._identity = identity
        self._switchboard = switchboard
        self._on_change = on_change
        self._clock = clock
        self._watch = RotationWatch(identity.node_id)
        self._told = self._digest
        """The CA that all peers were told of when it came."""
        self._warned = False
        self._has_news = False
        self._told_at = clock() - TELL_GAP_S
        switchboard.on(RosterStatements, self._received)
        switchboard.on(RotatedAuthority, self._received_authority)
        switchboard.on(AuthorityHeld, self._peer_holds)
        switchboard.on_peer(self._peer)

    async def run(self) -> None:
        """Makes a new CA when one is due, until cancelled."""
        while True:
            self.tick(self._clock())
            await asyncio.sleep(TICK_S)

    def tick(self, now: float) -> None:
        """Makes a new CA if it is this node's turn, and does what had to wait. `now`: monotonic seconds."""
        self._identity.save()
        if self._has_news:
            self.tell_all()
        held = self._identity.authority.standing
        if not self._watch.tick(held, self._identity.roster, self._switchboard.peers(), now):
            return
        try:
            self._identity.rotate()
        except RotationsUsedUp as error:
            if not self._warned:
                self._warned = True
                log.warning("%s", error)
            return
        log.info("A removed node held a key of the mesh's CA: made a new one.")
        self.tell_all()

    def tell_all(self) -> None:
        """Roster or CA changed here: everybody hears it, then removed members lose their links."""
        self._has_news, self._told_at = False, self._clock()
        for node in self._switchboard.peers():
            self._tell(node)
        if self._told != self._digest:
            self._told = self._digest
            for node in self._switchboard.peers():
                self._give_authority(node)
        self._part_with_removed()
        self._on_change()

    def heard(self, news: TrustNews) -> None:
        """What a peer told has changed something here, over a link or while connecting."""
        if news.roster or news.authority:
            self._part_with_removed()
            self._has_news = True
            if news.authority or self._clock() - self._told_at >= TELL_GAP_S:
                self.tell_all()

    @property
    def _digest(self) -> bytes:
        return self._identity.authority.standing.digest

    def _peer(self, node: str, up: bool) -> None:
        if up:
            self._tell(node)
            with contextlib.suppress(LinkError):
                self._switchboard.send(node, AuthorityHeld(self._digest))

    def _received(self, sender: str, message: RosterStatements) -> None:
        try:
            changed = self._identity.merge_statements(message.statements)
        except PeerinferError as error:
            log.warning("The roster that %s sent was not taken: %s", sender[:8], error)
            return
        self.heard(TrustNews(changed, False, ""))

    def _received_authority(self, sender: str, message: RotatedAuthority) -> None:
        if not self._identity.roster.is_member(sender):
            return
        news = self._identity.take_authority(message.authority, message.statements)
        if news.refusal:
            log.warning("The CA that %s sent was not taken over: %s.", sender[:8], news.refusal)
        self.heard(news)

    def _peer_holds(self, sender: str, message: AuthorityHeld) -> None:
        """Answers a peer that holds another CA; it does the same, and the lower of the two gives way."""
        if message.digest != self._digest:
            self._give_authority(sender)

    def _tell(self, node: str) -> None:
        with contextlib.suppress(LinkError):
            self._switchboard.send(node, RosterStatements(self._identity.roster.to_wire()))

    def _give_authority(self, node: str) -> None:
        with contextlib.suppress(LinkError):
            self._switchboard.send(node, RotatedAuthority(self._identity.give_authority(node), ()))

    def _part_with_removed(self) -> None:
        for node in list(self._switchboard.peers()):
            if not self._identity.roster.is_member(node):
                self._switchboard.disconnect(node, GoodbyeReason.LEAVING, "This node was removed from the mesh.")
