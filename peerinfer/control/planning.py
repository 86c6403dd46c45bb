"""How somebody wants a model loaded, and what the members say of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from peerinfer.control.members import Member
from peerinfer.control.messages import LoadRequest
from peerinfer.control.state import CONTEXT_MAX, SLOTS_MAX, STAGES_MAX
from peerinfer.errors import BadRequest
from peerinfer.gossip.liveness import Liveness
from peerinfer.gossip.snapshot import HeldModel
from peerinfer.placement.fixed import Wanted
from peerinfer.placement.problem import POLICIES

CONTEXT_DEFAULT: Final = 4096
SLOTS_DEFAULT: Final = 4
CONTEXT_LEAST: Final = 1024
"""Tokens below which a model is of little use to a person."""


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


def variants(request: LoadRequest, model: HeldModel) -> tuple[Wishes, ...]:
    """The wishes in a request, and where it leaves context or slots open those that take less memory, in turn.

    First fewer requests at once, then less context. Raises as `wishes_of`.
    """
    wanted = wishes_of(request, model)
    found, wishes = [wanted], wanted
    while request.slots == 0 and wishes.slots > 1:
        wishes = replace(wishes, slots=wishes.slots // 2)
        found.append(wishes)
    while request.context == 0 and wishes.context > CONTEXT_LEAST:
        wishes = replace(wishes, context=max(CONTEXT_LEAST, wishes.context // 2))
        found.append(wishes)
    return tuple(found)


def model_of(digest: str, members: Iterable[Member]) -> HeldModel | None:
    """What any member says of the model with this digest: one that has all of it, if there is one.

    Rather one that tells what it takes in MLX, too: a peer of an older version does not.
    """
    held = [model for member in members if (model := member.model(digest))]
    return max(held, key=lambda model: (model.is_whole, model.mlx_layer_bytes > 0), default=None)


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
