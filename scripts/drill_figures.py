"""What every drill needs: figures and whether they hold, and questions to many hosts at once."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from drill_hosts import END_S, Condition, DrillFailed

from peerinfer.api.client import ApiClient
from peerinfer.api.replies import JsonObject
from peerinfer.errors import PeerinferError

T = TypeVar("T")

BACK_S = 90.0
"""How long is waited for a mesh that must come together again."""


class Figures:
    """The figures, and what failed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.figures: dict[str, object] = {}
        self.failed: list[str] = []
        self._say = say

    def figure(self, name: str, value: object, holds: bool = True) -> None:
        """Notes and prints one figure; `holds` tells whether it is as it must be."""
        self.figures[name] = round(value, 3) if isinstance(value, float) else value
        self._say(f"{'  ' if holds else '✗ '}{name}: {self.figures[name]}")
        if not holds:
            self.failed.append(f"{name}: {self.figures[name]}")

    def spread(self, name: str, values: Sequence[float], bar_s: float | None = None) -> None:
        """Notes the median and the maximum of what was measured; it holds if all are within the bar (None: no bar)."""
        shown = f"median {statistics.median(values):.2f}, max {max(values):.2f} of {len(values)}" if values else "none"
        holds = bool(values) and (bar_s is None or max(values) <= bar_s)
        bar = "" if bar_s is None else f" (bar {bar_s:g} s: {'held' if holds else 'not held'})"
        self.figure(name, shown + bar, holds)

    def step(self, name: str, does: Callable[[], None]) -> bool:
        """Does one step; a failure is noted, and the steps after it are still tried."""
        self._say(f"{name} ...")
        try:
            does()
        except (DrillFailed, PeerinferError, OSError, TimeoutError) as error:
            self.failed.append(f"{name}: {error or type(error).__name__}")
            self._say(f"✗ {self.failed[-1]}")
            return False
        return True


def is_whole_of(count: int) -> Condition:
    """Whether a node hears all `count` members, has a link to each other one, and knows who leads."""

    def is_whole(state: JsonObject) -> bool:
        own = [link for link in state["links"] if link["from"] == state["node"]["id"]]
        return alive(state) == count == len(own) + 1 and bool(state["mesh"]["leader"])

    return is_whole


def alive(state: JsonObject) -> int:
    """Members that are heard of."""
    return sum(member["state"] == "alive" and bool(member["snapshot"]) for member in state["members"])


def common_leader(states: Sequence[JsonObject]) -> str:
    """Whom all states name as the leader, under one ballot; an empty text if they do not."""
    named = {(state["mesh"]["leader"], json.dumps(state["mesh"]["ballot"])) for state in states}
    leader = named.pop()[0] if len(named) == 1 else None
    return leader or ""


def common_instance(states: Sequence[JsonObject]) -> str:
    """The one instance that all states have, ready and in the same epoch; an empty text if they do not."""
    named = {
        json.dumps([(one["id"], one["epoch"], one["state"]) for one in state["instances"]])
        if [one["state"] for one in state["instances"]] == ["ready"]
        else ""
        for state in states
    }
    return named.pop() if len(named) == 1 else ""


class Steady:
    """Since when the same has been said without a break."""

    def __init__(self) -> None:
        self.since = 0.0
        self._value = ""

    def note(self, value: str, at: float) -> float:
        """For how long `value` has been said at `at`; an empty one is never steady."""
        if value != self._value:
            self._value, self.since = value, at
        return at - self.since if value else -1.0


def has_ready_instance(state: JsonObject) -> bool:
    """Whether a model can be asked."""
    return any(one["state"] == "ready" for one in state["instances"])


def results(futures: Sequence[Future[T]]) -> list[T]:
    """What all came to. Raises `DrillFailed` if one took too long."""
    try:
        return [each.result(BACK_S + END_S) for each in futures]
    except TimeoutError:
        raise DrillFailed("What was waited for did not come in time.") from None


def wait_for(holds: Callable[[], bool], timeout_s: float) -> None:
    """Raises `DrillFailed` unless `holds` in time."""
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise DrillFailed("What was waited for did not come in time.")
        time.sleep(0.01)


async def answer(client: ApiClient, body: JsonObject, flows: Callable[[], None] | None = None) -> tuple[str, list[int]]:
    """A greedy answer: its text and its token ids. `flows` is called when its first piece is there."""
    pieces: list[str] = []
    ids: list[int] = []
    async for chunk in client.chat(body):
        if flows is not None and not pieces:
            flows()
        pieces += [choice["delta"].get("content", "") for choice in chunk["choices"]]
        ids = chunk.get("peerinfer", {}).get("token_ids", ids)
    return "".join(pieces), ids
