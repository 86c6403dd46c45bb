"""Nodes as people speak of them: by name, and whether they are there. Pure."""

from __future__ import annotations

from peerinfer.control.state import ClusterState, Liveness
from tui.words import name_of


def shown_name(node: str, state: ClusterState) -> str:
    """The name of a node, made harmless; the beginning of its id where it has none that can be shown."""
    member = state.member(node)
    return name_of(member.name if member is not None else "", node)


def is_lost(node: str, state: ClusterState) -> bool:
    """Whether a node does not answer, or is no member any more."""
    member = state.member(node)
    return member is None or member.state is not Liveness.ALIVE
