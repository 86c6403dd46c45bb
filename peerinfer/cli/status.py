"""`status`: who is here, who leads, which models run and where."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from peerinfer.api.client import ApiClient
from peerinfer.cli.show import SHORT_ID, names_of, result, result_json, size, stages_text, table
from peerinfer.cli.verbs import Verbs, add_json, add_verb, with_daemon
from peerinfer.engine.kinds import ENGINES


def add(verbs: Verbs) -> None:
    """Declares the verb of this file."""
    add_json(add_verb(verbs, "status", "show the mesh as this node sees it", run_status))


def run_status(args: argparse.Namespace) -> int:
    """Prints the state once."""

    async def act(client: ApiClient) -> int:
        state = await client.state()
        if args.json:
            result_json(state)
        else:
            result(status_text(state))
        return 0

    return with_daemon(args, act)


def status_text(state: Mapping[str, Any]) -> str:
    """The object of `status` for a person."""
    node, mesh, names = state["node"], state["mesh"], names_of(state)
    leader = mesh["leader"]
    parts = [
        f"{node['name']} ({node['id'][:SHORT_ID]}), peerinfer {node['version']}, "
        f"engines: {', '.join(node['engines']) or 'none'}\n"
        f"mesh {mesh['id'][:SHORT_ID]}, "
        + (f"led by {names.get(leader, leader[:SHORT_ID])}" if leader else "without a leader at the moment"),
        table(("NODE", "STATE", "FREE MEMORY", ""), [_member_row(member, node["id"]) for member in state["members"]]),
    ]
    if state["instances"]:
        rows = [(each["model"], each["state"], stages_text(each["stages"], names)) for each in state["instances"]]
        parts.append(table(("MODEL", "STATE", "LAYERS"), rows))
        labels = instance_labels(state["instances"], names)
        labelled = list(zip(labels, state["instances"], strict=True))
        parts.extend(f"{label}: {each['reason']}" for label, each in labelled if each.get("reason"))
        parts.extend(f"{label}: {told}" for label, each in labelled if (told := forecast_text(each)))
    else:
        parts.append("No model is loaded: `peerinfer models` lists them, `peerinfer load MODEL` loads one.")
    solver: Mapping[str, Any] = state.get("local", {}).get("solver", {})
    parts += [solver["trouble"]] if solver.get("trouble") else []
    if state["nearby"]:
        rows = [(each["address"], "invites you: peerinfer join" if each["pairing"] else "") for each in state["nearby"]]
        parts.append(table(("NEARBY", ""), rows))
    return "\n\n".join(parts)


def instance_labels(instances: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """What a line about each instance begins with: its model; where others have that too, also its state and nodes."""
    models = [str(each["model"]) for each in instances]
    return [
        model if models.count(model) == 1 else f"{model} ({each['state']}{_where(each['stages'], names)})"
        for model, each in zip(models, instances, strict=True)
    ]


def _where(stages: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    return f" on {stages_text(stages, names)}" if stages else ""


def forecast_text(instance: Mapping[str, Any]) -> str:
    """What was expected of an instance, what was measured, and where its time goes; empty if nothing is known."""
    predicted: Mapping[str, Any] = instance.get("predicted") or {}
    measured: Mapping[str, Any] = instance.get("measured") or {}
    parts: list[str] = []
    if predicted.get("tokens_per_s"):
        parts.append(f"predicted {predicted['tokens_per_s']:.1f} tokens/s")
    if measured.get("tokens_per_s"):
        error = instance.get("error")
        off = "" if error is None else f" ({error:+.0%})"
        parts.append(f"measured {measured['tokens_per_s']:.1f} tokens/s{off}")
    if predicted.get("bottleneck"):
        parts.append(f"slowest: {predicted['bottleneck']}")
    if predicted.get("solver"):
        parts.append(f"placed by {predicted['solver']}")
    told = ", ".join(parts)
    is_guess = told and not predicted.get("tokens_per_s") and predicted.get("why")
    return f"{told}. {predicted['why']}" if is_guess else told


def _member_row(member: Mapping[str, Any], this: str) -> tuple[str, str, str, str]:
    snapshot: Mapping[str, Any] | None = member["snapshot"]
    free = "?" if snapshot is None else size(snapshot["memory_free_bytes"])
    notes = ["this node"] if member["id"] == this else []
    notes += [] if snapshot is None else hardware_notes(snapshot)
    return member["name"] or member["id"][:SHORT_ID], member["state"], free, ", ".join(notes)


def hardware_notes(snapshot: Mapping[str, Any]) -> list[str]:
    """What of a machine matters to a person who asks why layers are where they are; nothing that is as it should be."""
    notes = [_device_note(device) for device in snapshot.get("devices", ()) if device["kind"] != "cpu"]
    if snapshot.get("on_battery"):
        percent = snapshot.get("battery_percent")
        notes.append("on battery" if percent is None else f"on battery, {percent:.0f} %")
    notes += ["lid closed"] if snapshot.get("lid_closed") else []
    notes += ["user at work"] if snapshot.get("user_active") else []
    notes += [f"heat: {snapshot['thermal']}"] if snapshot.get("thermal") in {"serious", "critical"} else []
    policy: Mapping[str, Any] = snapshot.get("policy") or {}
    notes += [words for key, words in _POLICIES if policy.get(key)]
    return notes + [_trouble(trouble["probe"]) for trouble in snapshot.get("troubles", ())]


def _trouble(probe: str) -> str:
    """An engine or a probe; `doctor` tells the reason."""
    return f"{probe} does not run" if probe in ENGINES else f"{probe} cannot tell"


_POLICIES = (("exclude", "kept out"), ("keep_light", "kept light"), ("never_on_battery", "not on battery"))


def _device_note(device: Mapping[str, Any]) -> str:
    free = f", {size(device['memory_free_bytes'])} free" if device["memory_bytes"] else ""
    throttled = f", {device['throttled']}" if device.get("throttled") else ""
    return f"{device['name']}{free}{throttled}"
