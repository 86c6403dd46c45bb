"""What happened to placements, in words: loaded, ready, moved and in what time, failed, unloaded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from peerinfer.control.state import ClusterState, Instance, InstanceState, StagePlace
from tui.mesh.lines import Line, Tone
from tui.mesh.people import is_lost, shown_name
from tui.words import harmless, in_list, layers, seconds, sentence, stages

REMEMBERED_MAX: Final = 256
"""Placements and losses that are remembered: as many as there can be at once."""


@dataclass(slots=True)
class Moves:
    """Remembers what ran where and since when somebody is lost, to say how long a move took."""

    _lost_at: dict[str, float] = field(default_factory=dict[str, float])
    """When a node that is not alive was missed first."""
    _begun_at: dict[str, float] = field(default_factory=dict[str, float])
    """When an instance stopped being ready, or began to load."""
    _ran: dict[str, Instance] = field(default_factory=dict[str, Instance])
    """The placement of each instance that was ready last."""

    def begin(self, state: ClusterState) -> None:
        """Takes what runs already as known."""
        self._ran = {one.id: one for one in state.instances if one.state is InstanceState.READY}
        self._begun_at.clear()

    def missed(self, node: str, now: float) -> None:
        """A node stopped answering."""
        if len(self._lost_at) < REMEMBERED_MAX:
            self._lost_at.setdefault(node, now)

    def back(self, node: str) -> bool:
        """It answers; whether it was missed before."""
        return self._lost_at.pop(node, None) is not None

    def tell(self, before: ClusterState, after: ClusterState, now: float) -> Iterable[Line]:
        """Sentences on what changed between the placements of two states."""
        old, new = _by_id(before.instances), _by_id(after.instances)
        for name, instance in new.items():
            was = old.get(name)
            if was is None or (was.state, was.epoch, was.reason) != (instance.state, instance.epoch, instance.reason):
                yield from self._changed(was, instance, after, now)
        for name in [name for name in old if name not in new]:
            self._forget(name)
            yield Line(f"{harmless(old[name].model)} was unloaded.")

    def _changed(self, was: Instance | None, one: Instance, state: ClusterState, now: float) -> Iterable[Line]:
        match one.state:
            case InstanceState.LOADING if was is None or was.epoch != one.epoch or was.state is InstanceState.READY:
                self._begin(one.id, now)
                if one.id not in self._ran:
                    yield Line(f"{harmless(one.model)} is being loaded: {_where(one, state)}.")
            case InstanceState.READY:
                yield from self._ready(one, state, now)
            case InstanceState.FAILED if (
                was is None or was.state is not InstanceState.FAILED or was.reason != one.reason
            ):
                yield Line(f"{harmless(one.model)} does not run: {sentence(one.reason)}", Tone.BAD)
            case _:
                return

    def _ready(self, one: Instance, state: ClusterState, now: float) -> Iterable[Line]:
        ran = self._ran.get(one.id)
        self._begin(one.id, now)
        begun = self._begun_at.pop(one.id)
        self._ran[one.id] = one
        model = harmless(one.model)
        if ran is not None and ran.stages == one.stages:
            if ran.epoch != one.epoch or now - begun > 0:
                yield Line(f"{model} is ready again after {seconds(now - begun)}.", Tone.GOOD)
        elif ran is None:
            took = f" after {seconds(now - begun)}" if now > begun else ""
            yield Line(f"{model} is ready{took}: {_where(one, state)}.", Tone.GOOD)
        else:
            yield from self._moved(ran, one, state, now, begun)

    def _moved(self, ran: Instance, one: Instance, state: ClusterState, now: float, begun: float) -> Iterable[Line]:
        """One sentence for each node that was lost; one for all if nobody was."""
        lost = [place for place in ran.stages if is_lost(place.node, state)]
        for place in lost:
            since = self._lost_at.get(place.node, begun)
            heirs = in_list(_heirs(place, one, state))
            was = layers(place.first_layer, place.last_layer)
            who = shown_name(place.node, state)
            yield Line(f"{who} left; its layers {was} went to {heirs} in {seconds(now - since)}.", Tone.GOOD)
        if not lost:
            yield Line(f"{harmless(one.model)} moved in {seconds(now - begun)}: {_where(one, state)}.", Tone.GOOD)

    def _begin(self, instance: str, now: float) -> None:
        if len(self._begun_at) < REMEMBERED_MAX:
            self._begun_at.setdefault(instance, now)

    def _forget(self, instance: str) -> None:
        self._ran.pop(instance, None)
        self._begun_at.pop(instance, None)


def _by_id(instances: Iterable[Instance]) -> Mapping[str, Instance]:
    """The placement of each instance that counts: one that comes or runs, before one that drains."""
    found: dict[str, Instance] = {}
    for one in instances:
        if one.id not in found or found[one.id].state is InstanceState.DRAINING:
            found[one.id] = one
    return found


def _heirs(place: StagePlace, one: Instance, state: ClusterState) -> Iterable[str]:
    """Who has the layers of `place` now; with their ranges if there are several."""
    took = [
        (max(place.first_layer, each.first_layer), min(place.last_layer, each.last_layer), each.node)
        for each in one.stages
    ]
    parts = [(first, last, node) for first, last, node in took if first < last]
    if len(parts) == 1:
        return [shown_name(parts[0][2], state)]
    return [f"{shown_name(node, state)} ({layers(first, last)})" for first, last, node in parts]


def _where(one: Instance, state: ClusterState) -> str:
    return stages((shown_name(place.node, state), place) for place in one.stages) or "nowhere yet"
