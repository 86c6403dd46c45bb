"""What a node does, in one line of a card: its stage, how far its loading is, or that it cannot be reached. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from peerinfer.control.state import Instance
from tui.mesh.hops import READY, Standing
from tui.picture.canvas import Role, Runs, width_of
from tui.picture.subject import STATE_SIGNS, Subject, stage_role
from tui.words import harmless, layers, milliseconds, percent

_SHORT: Final[Mapping[Standing, str]] = {Standing.UNREACHABLE: "no answer"}


def work(subject: Subject, width: int) -> Runs:
    """The stage of the chosen placement, else what it does of others; the longest wording that fits `width` cells."""
    return next((runs for runs in _wordings(subject) if width_of(runs) <= width), list(_wordings(subject))[-1])


def _wordings(subject: Subject) -> Iterable[Runs]:
    """From the longest to the shortest."""
    instance = subject.instance
    places = enumerate(instance.stages if instance is not None else ())
    mine = next((number for number, place in places if place.node == subject.member.id), None)
    if subject.standing is not Standing.ALIVE:
        yield from _out_of_reach(subject, mine)
    elif instance is not None and mine is not None:
        yield from _stage(instance, mine, subject)
    else:
        yield from _other(subject)


def _out_of_reach(subject: Subject, number: int | None) -> Iterable[Runs]:
    standing = subject.standing
    role = STATE_SIGNS[standing][1]
    stage = _range(subject, number) if number is not None else []
    for word in (standing.value, _SHORT.get(standing, standing.value)):
        yield [*stage, (word, role)]


def _stage(instance: Instance, number: int, subject: Subject) -> Iterable[Runs]:
    held = subject.state.held_stage(instance, number)
    stage = _range(subject, number)
    if held is None or held.state != READY:
        share = percent(held.progress) if held is not None else ""
        is_failed = held is not None and held.state == "failed"
        role = Role.BAD if is_failed else Role.WARNING
        word = "failed" if is_failed else f"loading {share}".rstrip()
        yield [*stage, (word, role)]
        yield [*stage, (word if is_failed else share, role)]
        return
    engine = harmless(instance.stages[number].engine)
    time: Runs = [(f" {milliseconds(held.ms_per_token)}", Role.STRONG)] if held.ms_per_token > 0 else []
    yield [("layers ", Role.PLAIN), *stage, (engine, Role.PLAIN), *time]
    yield [*stage, (engine, Role.PLAIN), *time]
    yield [*stage[:1], *time]


def _other(subject: Subject) -> Iterable[Runs]:
    node = subject.member.id
    models = {one.model for one in subject.state.instances if any(place.node == node for place in one.stages)}
    if models:
        yield [(f"runs {', '.join(sorted(map(harmless, models)))}", Role.PLAIN)]
        yield [("runs others", Role.PLAIN)]
    yield [("no layers", Role.FAINT)]


def _range(subject: Subject, number: int) -> Runs:
    if subject.instance is None:
        return []
    place = subject.instance.stages[number]
    return [(layers(place.first_layer, place.last_layer), stage_role(number)), (" ", Role.PLAIN)]
