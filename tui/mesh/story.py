"""The event log: what each change of the mesh means, in plain words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peerinfer.control.events import (
    ClusterEvent,
    InstancesChanged,
    LeaderChanged,
    MemberAppeared,
    MemberChanged,
    MemberLeft,
    NeighboursChanged,
    SnapshotReceived,
)
from peerinfer.control.state import ClusterState, Liveness, NodeReport
from tui.mesh.lines import Line, Tone
from tui.mesh.moves import Moves
from tui.mesh.people import shown_name
from tui.words import harmless, name_of

_HOT: Final = ("serious", "critical")


class Story:
    """Tells of each event once; it remembers only what durations need."""

    def __init__(self) -> None:
        self._moves = Moves()

    def begin(self, state: ClusterState, now: float, *, is_first: bool) -> Iterable[Line]:
        """A state came whole: at the start, or after the daemon was away."""
        self._moves.begin(state)
        for member in state.members:
            if member.state is Liveness.ALIVE:
                self._moves.back(member.id)
            elif member.report is not None:  # one without a report was never here
                self._moves.missed(member.id, now)
        if not is_first:
            yield Line("The node answers again.", Tone.GOOD)

    def tell(self, before: ClusterState, event: ClusterEvent, after: ClusterState, now: float) -> Iterable[Line]:
        """What `event` means, which led from `before` to `after`."""
        match event:
            case MemberAppeared():
                if before.member(event.node) is None:
                    yield Line(f"{name_of(event.name, event.node)} is in the mesh now.", Tone.GOOD)
            case MemberChanged():
                yield from self._changed(before, event, now)
            case MemberLeft():
                yield Line(f"{shown_name(event.node, before)} is no longer a member.", Tone.WARNING)
            case LeaderChanged():
                yield from _led(before, event, after)
            case SnapshotReceived():
                yield from _told(before, event, after)
            case InstancesChanged():
                yield from self._moves.tell(before, after, now)
            case NeighboursChanged():
                yield from _nearby(before, event)
            case _:
                return

    def _changed(self, before: ClusterState, event: MemberChanged, now: float) -> Iterable[Line]:
        known = before.member(event.node)
        if known is None:
            return
        name = name_of(event.name, event.node)
        if known.name != event.name and harmless(known.name) != harmless(event.name):
            yield Line(f"{name_of(known.name, event.node)} is called {name} now.")
        if known.state is event.state:
            return
        match event.state:
            case Liveness.ALIVE:
                if self._moves.back(event.node):
                    yield Line(f"{name} is back.", Tone.GOOD)
            case _ if known.report is None:  # it was never here yet, so nobody misses it
                return
            case Liveness.UNREACHABLE:
                self._moves.missed(event.node, now)
                yield Line(f"{name} does not answer.", Tone.WARNING)
            case Liveness.GONE:
                self._moves.missed(event.node, now)
                yield Line(f"{name} left.", Tone.WARNING)


def _led(before: ClusterState, event: LeaderChanged, after: ClusterState) -> Iterable[Line]:
    if event.leader is None:
        yield Line("Nobody leads the mesh.", Tone.WARNING)
    elif event.leader != before.leader:
        ballot = f" with ballot {event.ballot.counter}" if event.ballot is not None else ""
        yield Line(f"{shown_name(event.leader, after)} leads now{ballot}.")


def _told(before: ClusterState, event: SnapshotReceived, after: ClusterState) -> Iterable[Line]:
    known = before.member(event.node)
    if known is None or known.report is None:
        return
    name = shown_name(event.node, after)
    yield from (Line(f"{name} {text}", tone) for text, tone in _differences(known.report, event.report))


def _differences(before: NodeReport, after: NodeReport) -> Iterable[tuple[str, Tone]]:
    if before.on_battery is False and after.on_battery:
        yield "runs on its battery now.", Tone.WARNING
    if before.on_battery and after.on_battery is False:
        yield "has mains power again.", Tone.GOOD
    if not before.lid_closed and after.lid_closed:
        yield "closed its lid.", Tone.WARNING
    if before.lid_closed and after.lid_closed is False:
        yield "opened its lid.", Tone.GOOD
    if before.thermal not in _HOT and after.thermal in _HOT:
        yield "is hot and slows down.", Tone.WARNING
    if not before.policy.exclude and after.policy.exclude:
        yield "is kept out by its owner.", Tone.WARNING
    if before.policy.exclude and not after.policy.exclude:
        yield "takes part again.", Tone.GOOD
    for probe in sorted({probe for probe, _ in after.troubles} - {probe for probe, _ in before.troubles}):
        yield f"cannot tell or run all that it should: {harmless(probe)}.", Tone.WARNING


def _nearby(before: ClusterState, event: NeighboursChanged) -> Iterable[Line]:
    inviting = {each.address for each in before.neighbours if each.pairing}
    for each in event.neighbours:
        if each.pairing and each.address not in inviting:
            yield Line(f"A mesh at {harmless(each.address)} invites: press j to join it.")
