"""The ring of stages: a strip of layers, and for each hop its milliseconds of compute, wire and wait. Pure."""

from __future__ import annotations

from typing import Final

from peerinfer.control.state import ClusterState, Instance, InstanceState
from tui.mesh.hops import READY, Hop, Part, bottleneck, hops_of, token_ms
from tui.mesh.people import shown_name
from tui.picture.canvas import Canvas, Role, Runs, bar
from tui.picture.subject import stage_role
from tui.words import cells, fit, harmless, layers, milliseconds, percent, rate, sentence

STRIP_ROWS: Final = 2
"""The strip and the ranges below it."""
NAME_WIDTH: Final = 18
COLUMN: Final = 9
WIDE: Final = 96
"""Columns from which there is room for engines and words."""
STATE_ROLES: Final = {
    InstanceState.READY: Role.GOOD,
    InstanceState.LOADING: Role.WARNING,
    InstanceState.DRAINING: Role.WARNING,
    InstanceState.FAILED: Role.BAD,
}


def headline(instance: Instance, state: ClusterState, per_s: float) -> Runs:
    """Model, state, speeds: measured now or last, predicted."""
    runs: Runs = [(harmless(instance.model), Role.STRONG), (" ", Role.PLAIN)]
    runs.append((instance.state.value, STATE_ROLES[instance.state]))
    if instance.state is InstanceState.LOADING:
        share = state.loading_share(instance)
        return [*runs, (" ", Role.PLAIN), *bar(share, 16, Role.WARNING), (f" {percent(share)}", Role.PLAIN)]
    speed = state.speed(instance.id)
    if per_s > 0:
        runs.append((f"  {rate(per_s)} tokens/s", Role.ACTIVE))
    elif speed is not None and speed.is_of(instance):
        runs.append((f"  {rate(speed.tokens_per_s)} tokens/s", Role.STRONG))
        runs.append((f"  first token {milliseconds(speed.ttft_ms)}", Role.PLAIN))
    if (around := token_ms(hops_of(instance, state))) > 0:
        runs.append((f"  {milliseconds(around)} around the ring", Role.PLAIN))
    if instance.forecast.tokens_per_s > 0:
        runs.append((f"  predicted {rate(instance.forecast.tokens_per_s)}", Role.FAINT))
    return runs


def reason(instance: Instance) -> Runs:
    """Why it does not run, or not as it was asked for."""
    return [(sentence(instance.reason), STATE_ROLES[instance.state])] if instance.reason else []


def strip(instance: Instance, state: ClusterState, width: int) -> list[Runs]:
    """All layers in a row, as wide as each stage has layers, with names below."""
    total = max((place.last_layer for place in instance.stages), default=0)
    if not total or width < 4:
        return []
    canvas = Canvas(width, STRIP_ROWS)
    for number, place in enumerate(instance.stages):
        start, end = place.first_layer * width // total, max(1, place.last_layer * width // total)
        role = stage_role(number)
        canvas.text(start, 0, "█" * max(1, end - start - (1 if number < len(instance.stages) - 1 else 0)), role)
        label = f"{shown_name(place.node, state)} {layers(place.first_layer, place.last_layer)}"
        room = end - start - 1
        shown = label if cells(label) <= room else layers(place.first_layer, place.last_layer)
        canvas.text(start, 1, fit(shown, room) if room > 0 else "", role)
    return canvas.rows()


def table(instance: Instance, state: ClusterState, width: int) -> list[Runs]:
    """A row for each hop: who, layers, engine, milliseconds of each part; the slowest part is marked."""
    hops = hops_of(instance, state)
    if not hops:
        return []
    slowest = bottleneck(hops)
    wide = width >= WIDE
    rows: list[Runs] = [_head(wide)]
    for number, hop in enumerate(hops):
        worst = slowest[1] if slowest is not None and slowest[0] == number else None
        rows.append(_row(hop, number, state, worst, wide=wide))
    return rows


def _head(wide: bool) -> Runs:
    engine = f"{'engine':<11}" if wide else ""
    parts = "".join(f"{part.value:>{COLUMN}}" for part in Part)
    return [(f"{'stage':<{NAME_WIDTH}}{'layers':<8}{engine}{parts}", Role.FAINT)]


def _row(hop: Hop, number: int, state: ClusterState, worst: Part | None, *, wide: bool) -> Runs:
    place = hop.place
    name = fit(shown_name(place.node, state), NAME_WIDTH - 1)
    runs: Runs = [
        (f"{name}{' ' * (NAME_WIDTH - cells(name))}", stage_role(number)),
        (f"{layers(place.first_layer, place.last_layer):<8}", Role.PLAIN),
    ]
    if wide:
        runs.append((f"{fit(harmless(place.engine), 10):<11}", Role.PLAIN))
    if hop.state != READY:
        word = harmless(hop.state) or "not heard of yet"
        return [*runs, *bar(hop.progress, 16, Role.WARNING), (f" {word} {percent(hop.progress)}", Role.WARNING)]
    for part, ms in hop.times:
        shown = milliseconds(ms) if ms > 0 else "–"
        runs.append((f"{shown:>{COLUMN}}", Role.WARNING if part is worst else Role.PLAIN))
    if worst is not None:
        runs.append((f" ◀ slowest{f': {worst.value}' if wide else ''}", Role.WARNING))
    return runs
