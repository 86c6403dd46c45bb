"""`status --json` as plain values: the state of the cluster, drawn as interface.md says. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from peerinfer.control.state import ClusterMember, ClusterState, HeldStage, Instance, NodeReport


def status(state: ClusterState) -> dict[str, Any]:
    """The JSON object."""
    ballot = state.ballot
    return {
        "node": _node(state),
        "mesh": {
            "id": state.mesh,
            "leader": state.leader,
            "ballot": [ballot.counter, ballot.node] if ballot else None,
        },
        "members": [_member(member) for member in state.members],
        "nearby": [asdict(neighbour) for neighbour in state.neighbours],
        "links": [
            {
                "from": link.origin,
                "to": link.target,
                "rtt_us": link.rtt_us,
                "bandwidth_bytes_per_s": link.bandwidth_bytes_per_s,
                "is_stale": link.is_stale,
            }
            for link in state.links
        ],
        "instances": [instance_status(instance, state) for instance in state.instances],
    }


def instance_status(instance: Instance, state: ClusterState) -> dict[str, Any]:
    """One entry of `instances`."""
    held = state.held(instance)
    measured = _measured(instance, held, state)
    epoch = instance.epoch
    return {
        "id": instance.id,
        "model": instance.model,
        "digest": instance.digest,
        "epoch": [epoch.counter, epoch.node, epoch.n],
        "state": instance.state.value,
        "reason": instance.reason,
        "context": instance.context,
        "slots": instance.slots,
        "stages": [_stage(instance, number, held.get(number), state) for number in range(len(instance.stages))],
        "predicted": _predicted(instance),
        "measured": measured,
        "error": _error(instance.forecast.tokens_per_s, measured["tokens_per_s"]),
    }


def _node(state: ClusterState) -> dict[str, Any]:
    own = state.member(state.node)
    report = own.report if own else None
    return {
        "id": state.node,
        "name": own.name if own else "",
        "version": report.version if report else "",
        "engines": list(report.engines) if report else [],
    }


def _member(member: ClusterMember) -> dict[str, Any]:
    told = _report(member.report) if member.report is not None else None
    return {"id": member.id, "name": member.name, "state": member.state.value, "snapshot": told}


def _report(report: NodeReport) -> dict[str, Any]:
    return {
        "version": report.version,
        "memory_bytes": report.memory_bytes,
        "memory_free_bytes": report.memory_free_bytes,
        "devices": [asdict(device) for device in report.devices],
        "on_battery": report.on_battery,
        "battery_percent": report.battery_percent,
        "lid_closed": report.lid_closed,
        "user_active": report.user_active,
        "thermal": report.thermal or None,
        "swap_used_bytes": report.swap_used_bytes,
        "troubles": [{"probe": probe, "reason": reason} for probe, reason in report.troubles],
        "policy": asdict(report.policy),
        "engines": list(report.engines),
        "models": [asdict(model) for model in report.models],
    }


def _stage(instance: Instance, number: int, held: HeldStage | None, state: ClusterState) -> dict[str, Any]:
    place = instance.stages[number]
    return {
        "node": place.node,
        "name": state.name_of(place.node),
        "engine": place.engine,
        "layers": [place.first_layer, place.last_layer],
        "state": held.state if held else None,
        "progress": round(held.progress, 3) if held else None,
        "ms_per_token": _time(held.ms_per_token if held else 0.0),
        "hop_in_ms": _time(held.hop_in_ms if held else 0.0),
        "wait_ms": _time(held.wait_ms if held else 0.0),
    }


def _predicted(instance: Instance) -> dict[str, Any]:
    """What its leader expected when it placed it, and why it did it so; figures are None where no speed was known."""
    told = instance.forecast
    return {
        "tokens_per_s": round(told.tokens_per_s, 2) or None,
        "ttft_ms": round(told.ttft_ms, 1) or None,
        "bottleneck": told.bottleneck or None,
        "solver": told.solver or None,
        "optimal": told.is_optimal,
        "why": told.why or None,
    }


def _error(predicted: float, measured: float | None) -> float | None:
    """By what share the measured speed is off; None before both are known."""
    return round(measured / predicted - 1, 3) if predicted and measured else None


def _measured(instance: Instance, held: dict[int, HeldStage], state: ClusterState) -> dict[str, float | None]:
    """What this node's gateway saw; without that, the speed that the measured times of stages and hops add up to."""
    own = state.speed(instance.id)
    if own is not None and own.is_of(instance):
        return {"tokens_per_s": own.tokens_per_s, "ttft_ms": own.ttft_ms}
    complete = len(held) == len(instance.stages) and all(stage.ms_per_token > 0 for stage in held.values())
    step_ms = sum(stage.ms_per_token + stage.hop_in_ms + stage.wait_ms for stage in held.values())
    return {"tokens_per_s": round(1000 / step_ms, 2) if complete and step_ms else None, "ttft_ms": None}


def _time(milliseconds: float) -> float | None:
    """A measured time; None before the first measurement."""
    return round(milliseconds, 3) if milliseconds > 0 else None
