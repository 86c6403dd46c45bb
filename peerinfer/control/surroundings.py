"""What the door of control is handed: links, disk, and the mesh and this machine as other rooms know them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from peerinfer.clock import Clock
from peerinfer.control.intents import Signer
from peerinfer.control.state import Neighbour
from peerinfer.election.ballot import Ballot
from peerinfer.gossip.snapshot import HeldModel, Snapshot
from peerinfer.net.switchboard import LinkFacts
from peerinfer.placement.plan import Plan
from peerinfer.placement.problem import Problem


class Wires(Protocol):
    """The switchboard, as far as control needs it."""

    def send(self, to: str, message: Any, /) -> Any: ...
    def on(self, kind: type[Any], handler: Callable[[str, Any], None], /) -> Any: ...
    def on_peer(self, handler: Callable[[str, bool], None], /) -> Any: ...
    def peers(self) -> Mapping[str, LinkFacts]: ...


class Promises(Protocol):
    """The promise on disk (`election/storage.py`)."""

    value: Ballot

    def save(self, ballot: Ballot, /) -> None: ...


class Wanted(Protocol):
    """The intents on disk (`control/storage.py`)."""

    def load(self) -> tuple[bytes, ...]: ...
    def save(self, statements: tuple[bytes, ...], /) -> None: ...


Solve = Callable[[Problem, Callable[[Plan | None], None]], None]
"""Has a solver look at a problem, and calls back, from the event loop, with its plan, or None if it has none."""


def no_solver(_problem: Problem, answer: Callable[[Plan | None], None]) -> None:
    """Answers at once that there is no plan: the quick one stands."""
    answer(None)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the node hands in: the mesh and this machine as other rooms know them."""

    mesh_id: str
    signer: Signer
    roster: Callable[[], Mapping[str, str]]
    """Members' names by node id, this node included."""
    portrait: Callable[[], Snapshot]
    """This node as it is now."""
    find: Callable[[str], Awaitable[HeldModel | None]]
    """This node's own model file of a name, and in its portrait from then on; None if it has none. Raises
    `BadRequest` for a name that may mean several, `ModelError` for a file that cannot be used."""
    clock: Clock
    boottime: Clock
    promises: Promises
    wanted: Wanted
    woke: Callable[[float], None] = lambda _: None
    """Told that this node slept or stood still, for so many seconds, before it acts on anything."""
    nearby: Callable[[], Sequence[Neighbour]] = tuple
    """Unpaired meshes in the neighbourhood."""
    measured: Callable[[str], tuple[float, float] | None] = lambda _: None
    """Tokens per second and milliseconds to the first token of the last answer that this node's gateway had from an
    instance, by its id; None before it."""
    solve: Solve = no_solver
