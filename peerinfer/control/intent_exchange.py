"""Keeps the intents of all nodes the same: told when minted, compared with a random node every so often. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from peerinfer.control.effects import Broadcast, Effects, SaveIntents
from peerinfer.control.intents import IntentBook
from peerinfer.control.messages import Intents, IntentsDigest
from peerinfer.net.effects import SendTo

COMPARE_S: Final = 2.0
"""Between two comparisons with a node chosen by chance: a lost message is made good within a few of them."""
ANSWER_GAP_S: Final = 0.5
"""A peer is told all intents at most so often, whatever it asks."""


class IntentExchange:
    """Anti-entropy over one node's book."""

    def __init__(self, node: str, book: IntentBook, chance: random.Random) -> None:
        self._node = node
        self._book = book
        self._chance = chance
        self._compare_at = 0.0
        self._told_at: dict[str, float] = {}

    def tick(self, peers: Collection[str], now: float) -> Effects:
        """Compares with one of `peers` when it is time, and vouches for what removed nodes had stated."""
        vouched = self._book.vouch()
        effects: Effects = (SaveIntents(self._book.statements), Broadcast(Intents(vouched))) if vouched else ()
        others = sorted(set(peers) - {self._node})
        if now < self._compare_at or not others:
            return effects
        self._compare_at = now + COMPARE_S
        return (*effects, *self.compare(self._chance.choice(others)))

    def compare(self, peer: str) -> Effects:
        """Has `peer` tell what this node may not know."""
        return (SendTo(peer, IntentsDigest(self._book.fingerprint)),)

    def learn(self, statements: tuple[bytes, ...]) -> Effects:
        """Takes in statements; what was new is on disk before anything else happens."""
        return (SaveIntents(self._book.statements),) if self._book.offer(statements) else ()

    def receive(self, sender: str, message: Intents | IntentsDigest, now: float) -> Effects:
        """Takes in what a peer states, and tells it what it does not know."""
        if isinstance(message, IntentsDigest):
            is_same = message.fingerprint == self._book.fingerprint
            return () if is_same else self._tell(sender, now, answer=True)
        saved = self.learn(message.statements)
        knows_more = set(self._book.statements) - set(message.statements)
        return saved + (self._tell(sender, now, answer=False) if message.answer and knows_more else ())

    def _tell(self, peer: str, now: float, *, answer: bool) -> Effects:
        if now - self._told_at.get(peer, -ANSWER_GAP_S) < ANSWER_GAP_S:
            return ()
        self._told_at[peer] = now
        return (SendTo(peer, Intents(self._book.statements, answer)),)
