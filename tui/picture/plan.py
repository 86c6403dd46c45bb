"""What `plan` says of a model, as lines: where it would run, how fast, why so, and what is in the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tui.mesh.told import Told, number, pair, part, parts, text, texts
from tui.picture.canvas import Role, Runs
from tui.words import harmless, layers, milliseconds, rate, sentence, size

ALTERNATIVES_SHOWN: Final = 3
REASONS_SHOWN: Final = 6
STAGES_MAX: Final = 64


def verdict(told: Told) -> tuple[str, Role]:
    """In a few words for a table: how fast it would be, or why it cannot be."""
    if short := part(told, "infeasible"):
        missing = number(short, "short_bytes")
        return (f"no: {size(missing)} short" if missing else "no", Role.BAD)
    per_s = number(part(told, "predicted"), "tokens_per_s")
    count = len({text(stage, "node") for stage in parts(told, "stages", STAGES_MAX)})
    where = "one node" if count == 1 else f"{count} nodes"
    guess = "about " if told.get("guessed") else ""
    return (f"{guess}{rate(per_s)} tokens/s, {where}" if per_s else f"on {where}", Role.GOOD)


def plan_lines(told: Told) -> list[Runs]:
    """All that a person who asks why wants to read."""
    if short := part(told, "infeasible"):
        return list(_impossible(short))
    return [*_where(told), *_reasons(told), *_alternatives(told)]


def _impossible(short: Told) -> Iterable[Runs]:
    yield [(sentence(text(short, "reason")), Role.BAD)]
    for advice in texts(short, "try", REASONS_SHOWN):
        yield [("try  ", Role.FAINT), (sentence(advice), Role.PLAIN)]


def _where(told: Told) -> Iterable[Runs]:
    for line in text(told, "summary").splitlines():
        yield [(sentence(line), Role.PLAIN)]
    for stage in parts(told, "stages", STAGES_MAX):
        yield [
            ("  ", Role.PLAIN),
            (f"{_name(stage)} {layers(*pair(stage, 'layers'))}", Role.STRONG),
            (_rest(stage), Role.PLAIN),
        ]
    if slowest := text(part(told, "predicted"), "bottleneck"):
        yield [("slowest  ", Role.FAINT), (sentence(slowest), Role.WARNING)]


def _rest(stage: Told) -> str:
    engine = f" {harmless(text(stage, 'engine'))}" if text(stage, "engine") else ""
    ms, memory = number(stage, "ms"), number(stage, "memory_bytes")
    time = f", {milliseconds(ms)} per token" if ms else ""
    return f"{engine}{time}{f', {size(memory)}' if memory else ''}"


def _reasons(told: Told) -> Iterable[Runs]:
    for one in parts(told, "excluded", REASONS_SHOWN):
        yield [("not  ", Role.FAINT), (f"{_name(one)}: {sentence(text(one, 'reason'))}", Role.PLAIN)]


def _alternatives(told: Told) -> Iterable[Runs]:
    for one in parts(told, "alternatives", ALTERNATIVES_SHOWN):
        per_s = number(part(one, "predicted"), "tokens_per_s")
        speed = f"{rate(per_s)} tokens/s" if per_s else "not timed"
        yield [("or   ", Role.FAINT), (f"{sentence(text(one, 'label'))}: {speed}", Role.PLAIN)]


def _name(told: Told) -> str:
    return harmless(text(told, "name")) or harmless(text(told, "node"))
