"""`status --json` as plain values: what this node knows of the mesh, drawn as interface.md says. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from peerinfer.control.members import Member, Members, named
from peerinfer.control.messages import Ballot
from peerinfer.control.state import Instance
from peerinfer.gossip.snapshot import HeldStage, Snapshot


@dataclass(frozen=True, slots=True)
class Measured:
    """What the gateway of this node measured of an instance."""

    tokens_per_s: float | None
    ttft_ms: float | None


@dataclass(frozen=True, slots=True)
class View:
    """All that `status` draws from."""

    node: str
    own: Snapshot
    mesh: str
    leader: str | None
    ballot: Ballot | None
    members: Members
    rtt_us: Mapping[str, float | None]
    """Round trip to each connected peer."""
    nearby: Sequence[Mapping[str, Any]]
    instances: Sequence[Instance]
    measured: Callable[[str], Measured | None]


def status(view: View) -> dict[str, Any]:
    """The JSON object."""
    return {
        "node": {
            "id": view.node,
            "name": view.own.name,
            "version": view.own.version,
            "engines": list(view.own.engines),
        },
        "mesh": {
            "id": view.mesh,
            "leader": view.leader,
            "ballot": [view.ballot.counter, view.ballot.node] if view.ballot else None,
        },
        "members": [_member(member) for member in view.members],
        "nearby": [dict(neighbour) for neighbour in view.nearby],
        "links": [
            {"from": view.node, "to": peer, "rtt_us": rtt_us, "bandwidth_bytes_per_s": None}
            for peer, rtt_us in sorted(view.rtt_us.items())
        ],
        "instances": [instance_status(instance, view.members, view.measured) for instance in view.instances],
    }


def instance_status(instance: Instance, members: Members, measured: Callable[[str], Measured | None]) -> dict[str, Any]:
    """One entry of `instances`."""
    held = held_stages(instance, members)
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
        "stages": [_stage(instance, number, held.get(number), members) for number in range(len(instance.stages))],
        "predicted": {"tokens_per_s": None, "ttft_ms": None},
        "measured": _measured(instance, held, measured(instance.id)),
    }


def held_stages(instance: Instance, members: Members) -> dict[int, HeldStage]:
    """What the nodes of an instance said last of its stages, by stage number."""
    by_node = {member.node: member.stages() for member in members}
    found: dict[int, HeldStage] = {}
    for number, place in enumerate(instance.stages):
        for stage in by_node.get(place.node, ()):
            if (stage.instance, stage.epoch, stage.stage) == (instance.id, instance.epoch, number):
                found[number] = stage
    return found


def loading_share(instance: Instance, members: Members) -> float:
    """Share of an instance's loading that is done, 0 … 1, as far as its nodes told."""
    held = held_stages(instance, members).values()
    done = sum(1.0 if stage.state == "ready" else min(1.0, stage.progress) for stage in held)
    return done / max(1, len(instance.stages))


def _member(member: Member) -> dict[str, Any]:
    snapshot = member.snapshot
    told: dict[str, Any] | None = None
    if snapshot is not None:
        told = {
            "version": snapshot.version,
            "memory_bytes": snapshot.memory_bytes,
            "memory_free_bytes": snapshot.memory_free_bytes,
            "devices": [asdict(device) for device in snapshot.devices],
            "on_battery": snapshot.on_battery,
            "engines": list(snapshot.engines),
            "models": [
                {"name": model.name, "digest": model.digest, "size_bytes": model.size_bytes}
                for model in snapshot.models
            ],
        }
    return {"id": member.node, "name": member.name, "state": member.state.value, "snapshot": told}


def _stage(instance: Instance, number: int, held: HeldStage | None, members: Members) -> dict[str, Any]:
    place = instance.stages[number]
    return {
        "node": place.node,
        "name": named(members, place.node),
        "engine": place.engine,
        "layers": [place.first_layer, place.last_layer],
        "state": held.state if held else None,
        "progress": round(held.progress, 3) if held else None,
        "ms_per_token": _time(held.ms_per_token if held else 0.0),
        "hop_in_ms": _time(held.hop_in_ms if held else 0.0),
    }


def _measured(instance: Instance, held: dict[int, HeldStage], own: Measured | None) -> dict[str, float | None]:
    """What this node's gateway saw; without that, the speed that the measured stage and hop times add up to."""
    if own is not None:
        return {"tokens_per_s": own.tokens_per_s, "ttft_ms": own.ttft_ms}
    complete = len(held) == len(instance.stages) and all(stage.ms_per_token > 0 for stage in held.values())
    step_ms = sum(stage.ms_per_token + stage.hop_in_ms for stage in held.values())
    return {"tokens_per_s": round(1000 / step_ms, 2) if complete else None, "ttft_ms": None}


def _time(milliseconds: float) -> float | None:
    """A measured time; None before the first measurement."""
    return round(milliseconds, 3) if milliseconds > 0 else None
