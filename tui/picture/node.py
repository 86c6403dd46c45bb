"""All that a node told of itself, as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from peerinfer.control.state import ClusterMember, ClusterState, NodeReport
from tui.mesh.hops import standing
from tui.mesh.people import shown_name
from tui.picture.canvas import Role, Runs
from tui.picture.card import device_runs, link_words
from tui.picture.subject import STATE_SIGNS
from tui.words import harmless, layers, milliseconds, of_size, sentence, size

MODELS_SHOWN = 8
"""Model files that are listed; the models screen has all."""


def describe(state: ClusterState, node: str, width: int) -> list[Runs]:
    """Everything worth knowing of a member, in `width` cells."""
    member = state.member(node)
    if member is None:
        return [[("It is no longer a member.", Role.WARNING)]]
    sign, role = STATE_SIGNS[standing(member, state)]
    lead = " · leads" if state.leader == node else ""
    own = " · this machine" if state.node == node else ""
    rows: list[Runs] = [
        [(f"{sign} ", role), (standing(member, state).value, role), (f"{lead}{own}", Role.ACCENT)],
        _fact("id", harmless(node)),
    ]
    if member.report is None:
        return [*rows, [("It has not told of itself yet.", Role.FAINT)]]
    return [*rows, *_report(member.report, width), *_stages(member, state), *_links(node, state)]


def _report(report: NodeReport, width: int) -> Iterable[Runs]:
    yield _fact("version", harmless(report.version))
    yield _fact("engines", ", ".join(map(harmless, report.engines)) or "none")
    yield _fact("memory", f"{of_size(report.memory_bytes - report.memory_free_bytes, report.memory_bytes)} in use")
    if report.swap_used_bytes:
        yield _fact("swap", f"{size(report.swap_used_bytes)} in use")
    for device in report.devices:
        yield _fact("device", harmless(device.name))
        yield [(" " * 10, Role.PLAIN), *device_runs(device, max(10, width - 10))]
        if device.throttled:
            yield [(" " * 10, Role.PLAIN), (sentence(device.throttled), Role.WARNING)]
    yield from _surroundings(report)
    for probe, reason in report.troubles:
        yield [(f"{'trouble':<10}", Role.FAINT), (f"{harmless(probe)}: {sentence(reason)}", Role.WARNING)]
    for model in report.models[:MODELS_SHOWN]:
        yield _fact("file", f"{harmless(model.name)}, {size(model.size_bytes)}")
    if len(report.models) > MODELS_SHOWN:
        yield _fact("", f"and {len(report.models) - MODELS_SHOWN} more")


def _surroundings(report: NodeReport) -> Iterable[Runs]:
    if report.battery_percent is not None:
        source = "on battery" if report.on_battery else "on mains power"
        yield _fact("power", f"{source}, charged {report.battery_percent:.0f} %")
    flags = [
        ("lid", "closed" if report.lid_closed else ""),
        ("person", "at work there" if report.user_active else ""),
        ("heat", harmless(report.thermal) if report.thermal not in {"", "nominal"} else ""),
    ]
    yield from (_fact(word, text) for word, text in flags if text)
    policy = report.policy
    wishes = ["kept out"] if policy.exclude else []
    wishes += ["kept light"] if policy.keep_light else []
    wishes += ["not on battery"] if policy.never_on_battery else []
    wishes += [f"at most {size(policy.memory_limit_bytes)}"] if policy.memory_limit_bytes else []
    if wishes:
        yield _fact("owner", ", ".join(wishes))


def _stages(member: ClusterMember, state: ClusterState) -> Iterable[Runs]:
    for stage in member.report.stages if member.report is not None else ():
        for one in state.instances:
            if (one.id, one.epoch) == (stage.instance, stage.epoch) and stage.stage < len(one.stages):
                place = one.stages[stage.stage]
                time = f", {milliseconds(stage.ms_per_token)} per token" if stage.ms_per_token else ""
                where = f"layers {layers(place.first_layer, place.last_layer)} in {harmless(place.engine)}"
                yield _fact("runs", f"{harmless(one.model)}: {where}, {harmless(stage.state)}{time}")


def _links(node: str, state: ClusterState) -> Iterable[Runs]:
    for link in state.links:
        if link.origin == node:
            yield _fact("link to", f"{shown_name(link.target, state)}: {link_words(link)}")


def _fact(word: str, text: str) -> Runs:
    return [(f"{word:<10}", Role.FAINT), (text, Role.PLAIN)]
