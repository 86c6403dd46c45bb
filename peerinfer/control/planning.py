"""From members and what stands already to the stages of one more instance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from peerinfer.control.members import Member, Members
from peerinfer.control.messages import LoadRequest
from peerinfer.control.state import CONTEXT_MAX, SLOTS_MAX, STAGES_MAX, Instance, InstanceState, StagePlace
from peerinfer.errors import BadRequest, NoPlacement
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldModel, Snapshot
from peerinfer.placement.fixed import Wanted, place_fixed
from peerinfer.placement.greedy import place
from peerinfer.placement.plan import stage_bytes
from peerinfer.placement.problem import Compute, Excluded, LinkNumbers, ModelNumbers, NodeNumbers, Problem, Room

USABLE_PERCENT: Final = 90
"""Of a machine's memory; the rest is for compute buffers, and for those who sit at it."""
CONTEXT_DEFAULT: Final = 4096
SLOTS_DEFAULT: Final = 4
POLICIES: Final = ("latency", "throughput", "spread")


@dataclass(frozen=True, slots=True)
class Wishes:
    """How somebody wants a model loaded; two loads with equal wishes want the same instance."""

    digest: str
    context: int
    slots: int
    policy: str = "latency"
    min_nodes: int = 1
    stages: tuple[Wanted, ...] = ()


def wishes_of(request: LoadRequest, model: HeldModel) -> Wishes:
    """The wishes in a request. Zeros become defaults; no model gets more context than it was trained for.

    Raises `BadRequest` for values that cannot be.
    """
    context = min(request.context or CONTEXT_DEFAULT, model.context_length or CONTEXT_MAX)
    slots = request.slots or SLOTS_DEFAULT
    if not 1 <= context <= CONTEXT_MAX:
        raise BadRequest(f"A context of {context} tokens is not possible; choose 1 to {CONTEXT_MAX}.")
    if not 1 <= slots <= SLOTS_MAX:
        raise BadRequest(f"{slots} slots are not possible; choose 1 to {SLOTS_MAX}.")
    if not 0 <= request.min_nodes <= STAGES_MAX or len(request.stages) > STAGES_MAX:
        raise BadRequest(f"A model can be split over 1 to {STAGES_MAX} nodes; ask for a number in that range.")
    if request.policy not in POLICIES:
        raise BadRequest(f"There is no policy {request.policy}; choose one of {', '.join(POLICIES)}.")
    return Wishes(model.digest, context, slots, request.policy, max(1, request.min_nodes), request.stages)


def model_of(digest: str, members: Iterable[Member]) -> HeldModel | None:
    """What any member says of the model with this digest: one that has all of it, if there is one."""
    held = [model for member in members if (model := member.model(digest))]
    return max(held, key=lambda model: model.is_whole, default=None)


def is_here(model: HeldModel, members: Iterable[Member]) -> bool:
    """Whether the members that are up have all weights of a model together, so that each can fetch what it needs.

    `model` may be what a member that is gone says of it.
    """
    told = [member.model(model.digest) for member in members if member.state is Liveness.ALIVE]
    held = [one for one in told if one is not None]
    if any(one.is_whole for one in held):
        return True
    reached = 0
    for start, end in sorted(piece for one in held for piece in one.held):
        if start > reached:
            return False
        reached = max(reached, end)
    return 0 < max((one.tensors for one in held), default=0) <= reached


def plan(
    model: HeldModel,
    wishes: Wishes,
    members: Members,
    standing: Sequence[Instance],
    *,
    obeying: Collection[str],
    first: str = "",
    leaving: Sequence[Instance] = (),
) -> tuple[StagePlace, ...]:
    """Stages for `wishes` on nodes that are `obeying`; the memory of what is `leaving` counts as free, not `standing`.

    Raises `NoPlacement` or `BadRequest` with a sentence.
    """
    if not is_here(model, members):
        raise NoPlacement(
            f"The nodes that are up do not have all of {model.name} together. "
            "Switch on the node that has it, or pull it again."
        )
    nodes, excluded = _candidates(model, wishes, members, obeying, standing, leaving=leaving)
    problem = Problem(
        model=_numbers(model),
        room=Room(wishes.context, wishes.slots),
        nodes=tuple(nodes),
        default_link=LinkNumbers("", "", 0.0),
        policy=wishes.policy,
        min_nodes=wishes.min_nodes,
        first=first,
        holders=tuple(member.node for member in members if _has_whole(member, model)),
        excluded=tuple(excluded),
    )
    placed = (place_fixed(problem, wishes.stages) if wishes.stages else place(problem)).stages
    engines = {member.node: member.snapshot.engines[0] for member in members if member.snapshot and _runs(member)}
    return tuple(StagePlace(one.node, engines[one.node], one.first_layer, one.last_layer) for one in placed)


def _numbers(model: HeldModel) -> ModelNumbers:
    return ModelNumbers(
        layers=model.layers,
        layer_bytes=model.layer_bytes,
        embedding_bytes=model.embedding_bytes,
        head_bytes=model.head_bytes,
        kv_bytes=model.kv_bytes,
        legal_cuts=model.legal_cuts,
    )


def _candidates(
    model: HeldModel,
    wishes: Wishes,
    members: Members,
    obeying: Collection[str],
    standing: Sequence[Instance],
    *,
    leaving: Sequence[Instance],
) -> tuple[list[NodeNumbers], list[Excluded]]:
    nodes: list[NodeNumbers] = []
    excluded: list[Excluded] = []
    for member in members:
        reason = _why_not(member) or ("" if member.node in obeying else "follows another leader at the moment")
        if reason or member.snapshot is None:
            excluded.append(Excluded(member.node, member.name, reason))
        else:
            usable = _usable(member.snapshot, member.node, members, standing, leaving)
            room = _disk_room(member, model)
            if room is not None and room < model.layer_bytes:
                free = f"{(member.snapshot.disk_free_bytes or 0) / 1e6:.0f} MB free"
                excluded.append(Excluded(member.node, member.name, f"has {free} on its disk for what it must fetch"))
                continue
            if room is not None:  # what it loads it must fetch, and keep; the cache is in memory only
                usable = min(usable, room + model.layers * model.kv_bytes * wishes.context * wishes.slots)
            nodes.append(NodeNumbers(member.node, member.name, (Compute(usable),)))
    return nodes, excluded


def _why_not(member: Member) -> str:
    """Why this member cannot take part; empty if it can."""
    if member.state is not Liveness.ALIVE:
        return "is unreachable"
    if member.snapshot is None:
        return "has not told yet what it holds"
    return "" if _runs(member) else "has no engine that runs models"


def _disk_room(member: Member, model: HeldModel) -> int | None:
    """Bytes of this model that can lie on a member's disk; None if that is not known, or it has all of it."""
    free = member.snapshot.disk_free_bytes if member.snapshot else None
    held = member.model(model.digest)
    if free is None or (held is not None and held.is_whole):
        return None
    share = sum(end - start for start, end in held.held) / held.tensors if held is not None else 0.0
    return free + int(share * model.size_bytes)


def _has_whole(member: Member, model: HeldModel) -> bool:
    held = member.model(model.digest)
    return held is not None and held.is_whole


def _runs(member: Member) -> bool:
    return member.snapshot is not None and bool(member.snapshot.engines)


def _usable(
    told: Snapshot, node: str, members: Members, standing: Sequence[Instance], leaving: Sequence[Instance]
) -> int:
    """Bytes for new stages, by two bounds, because what a stage takes shows in free memory late or not at all.

    Total memory without all that is placed (a mapped file stays "available"), and free memory without what still loads.
    """
    placed = sum(_bytes_on(node, one, members) for one in standing)
    loading = sum(_bytes_on(node, one, members) for one in standing if one.state is InstanceState.LOADING)
    returned = sum(_bytes_on(node, one, members) for one in leaving)
    total = told.memory_bytes * USABLE_PERCENT // 100 - placed
    free = told.memory_free_bytes * USABLE_PERCENT // 100 - loading + returned
    return max(0, min(total, free))


def _bytes_on(node: str, instance: Instance, members: Members) -> int:
    model = model_of(instance.digest, members)
    if model is None:
        return 0
    room = Room(instance.context, instance.slots)
    ranges = [(stage.first_layer, stage.last_layer) for stage in instance.stages if stage.node == node]
    return sum(stage_bytes(_numbers(model), room, start, end) for start, end in ranges)
