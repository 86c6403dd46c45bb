"""The chronicle of one mesh on this node: folds events in order, numbers them, and tells those who follow. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from peerinfer.control.apply import apply
from peerinfer.control.events import ClusterEvent
from peerinfer.control.state import ClusterState


class Follower(Protocol):
    """Who is told of each event. It must not wait, raise, or record events itself."""

    def told(self, number: int, event: ClusterEvent, /) -> None:
        """Event `number` happened: the one after the last that was told."""
        ...

    def ended(self) -> None:
        """The chronicle is over: this node stops, or goes to another mesh."""
        ...


class Chronicle:
    """State and history of one membership. Who begins with `state` at `number` misses none of what follows."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.number = 0
        """Of the last event in `state`."""
        self._followers: list[Follower] = []
        self._is_over = False

    def record(self, events: Iterable[ClusterEvent]) -> None:
        """Folds events and tells them. One that changes nothing, or comes after the end, is not told."""
        for event in events:
            state = apply(self.state, event)
            if state is self.state or self._is_over:
                continue
            self.state = state
            self.number += 1
            for follower in tuple(self._followers):
                follower.told(self.number, event)

    def follow(self, follower: Follower) -> tuple[int, ClusterState]:
        """Tells `follower` of all that comes after the number and the state that are returned."""
        if self._is_over:
            follower.ended()
        else:
            self._followers.append(follower)
        return self.number, self.state

    def leave(self, follower: Follower) -> None:
        """Tells `follower` nothing more; safe to call at any time."""
        if follower in self._followers:
            self._followers.remove(follower)

    def end(self) -> None:
        """Nothing follows."""
        self._is_over = True
        followers, self._followers = self._followers, []
        for follower in followers:
            follower.ended()
