"""Which models there are, where their files are, and what runs of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.control.state import ClusterState, Instance, InstanceState, Liveness
from tui.mesh.hops import main_instance
from tui.mesh.told import Told, flag, number, text
from tui.words import in_list, name_of, percent

MODELS_MAX: Final = 500
"""Rows of the table."""
NAMED_MAX: Final = 3
"""Nodes that are named in a row; more are counted."""


@dataclass(frozen=True, slots=True)
class ShelfModel:
    """A model as one row."""

    name: str
    digest: str
    size_bytes: int
    where: str
    state: str
    """What runs of it, in words; empty if nothing does."""
    problem: str = ""
    """Why its file cannot be used."""
    is_loaded: bool = False
    """Whether it is placed, in whatever state."""
    is_here: bool = False
    """Whether this node has files of it."""


def shelf_of(told: Sequence[Told], state: ClusterState) -> list[ShelfModel]:
    """The models that the daemon told of, then those that only other nodes have."""
    known = {text(each, "digest") for each in told}
    rows = [_own(each, state) for each in told[:MODELS_MAX]]
    others: dict[str, ShelfModel] = {}
    for member in state.members:
        for model in member.report.models if member.report is not None else ():
            if model.digest not in known and model.digest not in others and len(rows) + len(others) < MODELS_MAX:
                others[model.digest] = _row(model.name, model.digest, model.size_bytes, state)
    return [*rows, *others.values()]


def instance_with(digest: str, state: ClusterState) -> Instance | None:
    """The placement of a model."""
    ids = [one.id for one in state.instances if digest and one.digest == digest]
    return main_instance(state, ids[0]) if ids else None


def _own(told: Told, state: ClusterState) -> ShelfModel:
    size, is_whole = int(number(told, "size_bytes") or 0), flag(told, "here")
    return _row(
        text(told, "name"),
        text(told, "digest"),
        size,
        state,
        is_here=is_whole or size > 0,
        part="" if is_whole or not size else " (in part)",
        problem=text(told, "problem"),
    )


def _row(
    name: str,
    digest: str,
    size: int,
    state: ClusterState,
    *,
    is_here: bool = False,
    part: str = "",
    problem: str = "",
) -> ShelfModel:
    instance = instance_with(digest, state)
    words = _running(instance, state) if instance is not None else ""
    where = _where(digest, state, is_here=is_here) + part
    return ShelfModel(name, digest, size, where, words, problem, instance is not None, is_here)


def _running(instance: Instance, state: ClusterState) -> str:
    if instance.state is InstanceState.LOADING:
        return f"loading {percent(state.loading_share(instance))}"
    return instance.state.value


def _where(digest: str, state: ClusterState, *, is_here: bool) -> str:
    """On whose disks."""
    holders = [
        name_of(member.name, member.id)
        for member in state.members
        if member.id != state.node
        and member.state is not Liveness.GONE
        and member.report is not None
        and any(model.digest == digest for model in member.report.models)
    ]
    names = ["here", *sorted(holders)] if is_here else sorted(holders)
    return in_list(names) if len(names) <= NAMED_MAX else f"{names[0]} and {len(names) - 1} more"
