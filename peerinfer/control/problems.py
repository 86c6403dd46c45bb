"""From members and what stands already to the problem that a planner is given. Pure.

A node is left out for good where its owner says so, or it cannot; and for now, if others can do without it, where it is
about to go or somebody needs it: its lid is closed on battery, it is too hot, its memory is nearly full, or its owner
keeps it light and works at it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peerinfer.control.engines import engine_for, head_bytes, kinds_for, layer_bytes, why_no_engine
from peerinfer.control.members import Member, Members
from peerinfer.control.planning import Wishes, model_of
from peerinfer.control.speeds import StageNumbers, stage_numbers
from peerinfer.control.state import Instance, InstanceState
from peerinfer.engine.kinds import MLX
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import Device, HeldModel, LinkFigure, Snapshot
from peerinfer.placement.plan import bytes_per_layer, ends_bytes
from peerinfer.placement.problem import Compute, Excluded, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

USABLE_PERCENT: Final = 90
"""Of a memory; the rest is for those who sit at the machine, and for what no estimate knows."""
METAL_PERCENT: Final = 70
"""Of the memory of an Apple machine: Metal's working set is bounded at two thirds to three quarters of it."""
LIGHT_PERCENT: Final = 25
"""Of the memory of a machine that its owner keeps light."""
STAGE_BYTES: Final = 100_000_000
"""Of a stage besides weights and cache: the process and its compute buffers (93 MB measured, tests/engine)."""
CARD_STAGE_BYTES: Final = 700_000_000
"""The same on each card: the context, libraries' workspace and compute buffers. An H200 with CUDA 13, whose context is
among the largest, showed 1,304 MB for a stage with 98 MB of weights and 377 MB of cache."""
NUMBER_BYTES: Final = 4
"""Hidden states cross a link as float32."""
DEFAULT_LINK: Final = LinkNumbers("", "", latency_us=1000.0, bytes_per_s=50e6)
"""Of a pair that was not measured yet: between cable and Wi-Fi."""
PRESSED_SHARE: Final = 0.03
"""A machine with less of its memory free is about to swap, or to end processes."""
PRESSED_LEAVES: Final = 0.75
"""Of what a pressed machine holds it may keep so much."""


LAYERS_MAX: Final = 512
BYTES_MAX: Final = 1 << 50
"""Of what a member says: models have fewer layers, and neither they nor machines a petabyte."""


RTT_MAX_US: Final = 60e6
RATE_MIN: Final = 1e3
RATE_MAX: Final = 1e12
"""Of a link, whatever a member says: beyond, no answer would ever come, or no wire is so quick."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is placed already: it `stays`, or its memory counts as free because it is `leaving`."""

    stays: Sequence[Instance] = ()
    leaving: Sequence[Instance] = ()


def problem_of(
    model: HeldModel,
    wishes: Wishes,
    members: Members,
    standing: Standing,
    *,
    obeying: Collection[str],
    first: str = "",
    without: Collection[str] = (),
    is_lenient: bool = False,
) -> Problem:
    """The problem of placing `model` by `wishes`. `is_lenient` takes nodes that should be left out only for now.

    `without` names nodes (ids or names) that somebody leaves out.
    """
    room = Room(wishes.context, wishes.slots)
    numbers = numbers_of(model)
    nodes: list[NodeNumbers] = []
    excluded: list[Excluded] = []
    for member in members:
        reason = _why_not(member, model, obeying, without) or ("" if is_lenient else why_not_now(member))
        if reason or member.snapshot is None:
            excluded.append(Excluded(member.node, member.name, reason))
            continue
        limit = _layers_on_disk(member, model)
        if limit == 0:
            free = f"{(member.snapshot.disk_free_bytes or 0) / 1e6:.0f} MB free"
            excluded.append(Excluded(member.node, member.name, f"has {free} on its disk for what it must fetch"))
            continue
        engine = engine_for(member.snapshot, model)
        speeds = _speeds(member.snapshot, model, engine)
        host_bytes, card_bytes = _usable(member.snapshot, member, members, standing)
        kinds = kinds_for(engine, member.snapshot)
        devices = _devices(member.snapshot, kinds, speeds, host_bytes=host_bytes, card_bytes=card_bytes)
        if engine == MLX:
            devices = tuple(_in_file_bytes(device, model, room) for device in devices)
        stage_us = next((speed for speed in speeds if speed.is_measured), speeds[0]).stage_us
        nodes.append(NodeNumbers(member.node, member.name, devices, stage_us, STAGE_BYTES, limit))
    return Problem(
        model=numbers,
        room=room,
        nodes=tuple(nodes),
        links=_links(members, {node.node for node in nodes}),
        default_link=DEFAULT_LINK,
        policy=wishes.policy,
        min_nodes=wishes.min_nodes,
        first=first,
        holders=tuple(member.node for member in members if _has_whole(member, model)),
        excluded=tuple(excluded),
    )


def numbers_of(model: HeldModel) -> ModelNumbers:
    """The model as placement sees it."""
    return ModelNumbers(
        layers=model.layers,
        layer_bytes=model.layer_bytes,
        embedding_bytes=model.embedding_bytes,
        head_bytes=model.head_bytes,
        kv_bytes=model.kv_bytes,
        legal_cuts=model.legal_cuts,
        activation_bytes=model.width * NUMBER_BYTES,
    )


def is_possible(model: HeldModel) -> bool:
    """Whether what a member says of a model can be; a planner would stand still over a billion layers."""
    sizes = (model.layer_bytes, model.embedding_bytes, model.head_bytes, model.kv_bytes, model.width)
    return 1 <= model.layers <= LAYERS_MAX and max(sizes) <= BYTES_MAX


def why_unwelcome(member: Member) -> str:
    """Why the owner of a node does not want it to hold layers now; empty if he does not mind. Completes "NAME …"."""
    told = member.snapshot
    if told is None:
        return ""
    if told.policy.exclude:
        return "is kept out by its owner (config exclude)"
    if told.policy.never_on_battery and told.on_battery:
        return "runs on its battery, which its owner does not lend (config never-on-battery)"
    return ""


def why_leaving(member: Member) -> str:
    """Why a node may be gone in a moment; empty if it is not so. Completes "NAME …"."""
    told = member.snapshot
    if told is None:
        return ""
    if told.lid_closed and told.on_battery:
        return "has its lid closed and runs on its battery"
    return "is too hot to go on like this" if told.thermal == "critical" else ""


def why_busy(member: Member) -> str:
    """Why the person at a node needs it now; empty if nobody does. Completes "NAME …"."""
    told = member.snapshot
    if told is not None and told.policy.keep_light and told.user_active:
        return "is in use, and its owner keeps it light (config keep-light)"
    return ""


def is_pressed(member: Member) -> bool:
    """Whether a node's memory is nearly full."""
    told = member.snapshot
    return told is not None and told.memory_free_bytes < PRESSED_SHARE * told.memory_bytes


def why_not_now(member: Member) -> str:
    """Why a node should not get layers for now; empty if it may."""
    return why_leaving(member) or why_busy(member)


def _why_not(member: Member, model: HeldModel, obeying: Collection[str], without: Collection[str]) -> str:
    """Why this member cannot take part at all; empty if it can."""
    if member.node in without or member.name in without:
        return "is left out, as was asked for"
    if member.state is not Liveness.ALIVE:
        return "is unreachable"
    if member.snapshot is None:
        return "has not told yet what it holds"
    if not engine_for(member.snapshot, model):
        return why_no_engine(member.snapshot)
    unwelcome = why_unwelcome(member)
    return unwelcome or ("" if member.node in obeying else "follows another leader at the moment")


def _layers_on_disk(member: Member, model: HeldModel) -> int | None:
    """Layers of this model that can lie on a member's disk; None if that is not known, or it has all of them."""
    free = member.snapshot.disk_free_bytes if member.snapshot else None
    held = member.model(model.digest)
    if free is None or (held is not None and held.is_whole):
        return None
    share = sum(end - start for start, end in held.held) / held.tensors if held is not None else 0.0
    return (free + int(share * model.size_bytes)) // max(1, model.layer_bytes)


def _has_whole(member: Member, model: HeldModel) -> bool:
    held = member.model(model.digest)
    return held is not None and held.is_whole


def _speeds(told: Snapshot, model: HeldModel, engine: str) -> list[StageNumbers]:
    """What a layer takes on each device that the engine here computes with, the host last."""
    return [
        stage_numbers(
            told.speeds,
            told.devices,
            engine=engine,
            kind=kind,
            architecture=model.architecture,
            quantisation=model.quantisation,
            layer_bytes=model.layer_bytes,
            head_bytes=model.head_bytes,
        )
        for kind in (*kinds_for(engine, told), "cpu")
    ]


# Memory


def _in_file_bytes(device: Compute, model: HeldModel, room: Room) -> Compute:
    """A device of an MLX node, its memory in the measure that plans count in: bytes of the file and of the cache.

    MLX holds more for each weight, so what fits is less.
    """
    numbers = numbers_of(model)
    in_mlx = replace(numbers, layer_bytes=layer_bytes(model, MLX))
    share = bytes_per_layer(numbers, room) / max(1, bytes_per_layer(in_mlx, room))
    return replace(device, memory_bytes=int(device.memory_bytes * min(1.0, share)))


def _devices(
    told: Snapshot, kinds: Sequence[str], speeds: list[StageNumbers], *, host_bytes: int, card_bytes: int
) -> tuple[Compute, ...]:
    """Accelerators with a memory of their own, then the host; where there are none, one that uses the host's memory
    stands for it.
    """
    owners = {card.kind for card in _cards(told)}
    cards = [speed for kind, speed in zip(kinds, speeds, strict=False) if kind in owners]
    if cards:
        return _compute(card_bytes, cards[0]), _compute(host_bytes, speeds[-1])
    return (_compute(host_bytes, speeds[0]),)


def _compute(memory_bytes: int, speed: StageNumbers) -> Compute:
    return Compute(memory_bytes, speed.layer_us, speed.head_us, speed.prefill_layer_us, not speed.is_measured)


def _usable(told: Snapshot, member: Member, members: Members, standing: Standing) -> tuple[int, int]:
    """Bytes for new stages on the host and on its cards, each by two bounds, because what a stage takes shows in free
    memory late or not at all: total memory without all that is placed (a mapped file stays "available"), and free
    memory without what still loads.
    """
    placed = _sum(_bytes_on(member, one, members) for one in standing.stays)
    loading = _sum(_bytes_on(member, one, members) for one in standing.stays if one.state is InstanceState.LOADING)
    returned = _sum(_bytes_on(member, one, members) for one in standing.leaving)
    most = METAL_PERCENT if "metal" in told.accelerators else USABLE_PERCENT
    share = LIGHT_PERCENT if told.policy.keep_light else most
    total = told.memory_bytes * share // 100
    if told.policy.memory_limit_bytes:
        total = min(total, told.policy.memory_limit_bytes)
    free = told.memory_free_bytes * USABLE_PERCENT // 100
    host = min(total - placed[0], free - loading[0] + returned[0])
    if is_pressed(member):
        host = min(host, int(returned[0] * PRESSED_LEAVES))
    cards = _cards(told)
    card_total = sum(one.memory_bytes for one in cards) * USABLE_PERCENT // 100
    card_free = sum(one.memory_free_bytes for one in cards) * USABLE_PERCENT // 100
    card = min(card_total - placed[1], card_free - loading[1] + returned[1]) - len(cards) * CARD_STAGE_BYTES
    return min(BYTES_MAX, max(0, host)), min(BYTES_MAX, max(0, card))


def _cards(told: Snapshot) -> list[Device]:
    """Accelerators with a memory of their own: a stage there is spread over all of them."""
    return [one for one in told.devices if one.kind in told.accelerators and one.memory_bytes]


def _sum(amounts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    listed = list(amounts)
    return sum(host for host, _ in listed), sum(card for _, card in listed)


def _bytes_on(member: Member, instance: Instance, members: Members) -> tuple[int, int]:
    """What the stages of an instance take on a member: on the host, on its cards."""
    model = model_of(instance.digest, members)
    if model is None:
        return 0, 0
    numbers, room = numbers_of(model), Room(instance.context, instance.slots)
    cards = len(_cards(member.snapshot)) if member.snapshot else 0
    host = card = 0
    for stage in instance.stages:
        if stage.node == member.node:
            sizes = {"layer_bytes": layer_bytes(model, stage.engine), "head_bytes": head_bytes(model, stage.engine)}
            numbers = replace(numbers, **sizes)
            each = bytes_per_layer(numbers, room)
            layers = stage.last_layer - stage.first_layer
            on_card = min(layers, stage.accelerated or 0)
            ends = ends_bytes(numbers, stage.first_layer, stage.last_layer)
            head = numbers.head_bytes if on_card and stage.last_layer == numbers.layers else 0
            card += on_card * each + head + (cards * CARD_STAGE_BYTES if on_card else 0)
            host += (layers - on_card) * each + ends - head + STAGE_BYTES
    return host, card


# Links


def _links(members: Members, nodes: Collection[str]) -> tuple[LinkNumbers, ...]:
    """All that was measured between these nodes; where only one end told, it stands for both directions."""
    told: dict[tuple[str, str], LinkFigure] = {}
    for member in members:
        for figure in member.snapshot.links if member.snapshot and member.node in nodes else ():
            if figure.peer in nodes and figure.peer != member.node:
                told[member.node, figure.peer] = figure
    for (origin, target), figure in list(told.items()):
        told.setdefault((target, origin), figure)
    return tuple(_link(origin, target, figure) for (origin, target), figure in sorted(told.items()))


def _link(origin: str, target: str, figure: LinkFigure) -> LinkNumbers:
    """Half a round trip each way; a link whose rate was not measured yet has the default one."""
    rate = figure.bandwidth_bytes_per_s or DEFAULT_LINK.bytes_per_s
    return LinkNumbers(origin, target, min(RTT_MAX_US, figure.rtt_us) / 2, min(RATE_MAX, max(RATE_MIN, rate)))
