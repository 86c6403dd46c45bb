"""Keeps the rosters of all members the same: told on every new link, and again whenever something new was heard."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from peerinfer.errors import LinkDown, PeerinferError
from peerinfer.identity.storage import Identity
from peerinfer.net.link_messages import GoodbyeReason
from peerinfer.net.roster_message import RosterStatements
from peerinfer.net.switchboard import Switchboard

log = logging.getLogger(__name__)


class RosterExchange:
    """Sends statements, takes in those of others, and ends the links of members that were removed."""

    def __init__(self, identity: Identity, switchboard: Switchboard, on_change: Callable[[], None]) -> None:
        self._identity = identity
        self._switchboard = switchboard
        self._on_change = on_change
        switchboard.on(RosterStatements, self._received)
        switchboard.on_peer(self._peer)

    def tell_all(self) -> None:
        """The roster changed here: everybody hears it, then removed members lose their links."""
        for node in self._switchboard.peers():
            self._tell(node)
        self._part_with_removed()
        self._on_change()

    def _peer(self, node: str, up: bool) -> None:
        if up:
            self._tell(node)

    def _received(self, sender: str, message: RosterStatements) -> None:
        try:
            changed = self._identity.merge_statements(message.statements)
        except PeerinferError as error:
            log.warning("The roster that %s sent was not taken: %s", sender[:8], error)
            return
        if changed:
            self.tell_all()

    def _tell(self, node: str) -> None:
        with contextlib.suppress(LinkDown):
            self._switchboard.send(node, RosterStatements(self._identity.roster.to_wire()))

    def _part_with_removed(self) -> None:
        for node in list(self._switchboard.peers()):
            if not self._identity.roster.is_member(node):
                self._switchboard.disconnect(node, GoodbyeReason.LEAVING, "This node was removed from the mesh.")
