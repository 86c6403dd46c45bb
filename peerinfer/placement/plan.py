"""What a planner answers: stages, what they will do, and how they were found; and the words for sizes and lists."""

from __future__ import annotations

from dataclasses import dataclass

from peerinfer.placement.problem import ModelNumbers, Room


@dataclass(frozen=True, slots=True)
class PlacedStage:
    """Layers `first_layer … last_layer - 1` on `node`, which take `memory_bytes` there."""

    node: str
    first_layer: int
    last_layer: int
    memory_bytes: int
    accelerated: int = 0
    """Of these layers, how many run on the node's accelerators: the last ones, the head before them."""


Stages = tuple[PlacedStage, ...]
"""In ring order."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a token's time: a stage (`target` empty) or the way to the next one."""

    node: str
    target: str
    us: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """What stages will do. Times in microseconds."""

    token_us: float
    """From one token of a stream to the next: all stages, all hops, and the way back to the first."""
    pace_us: float
    """From one token to the next with every stage busy: the slowest stage or hop."""
    tokens_per_s: float
    """By the policy: of `pace_us` under `throughput`, else of `token_us`."""
    ttft_us: float | None
    """To the first token after a prompt of `costs.PROMPT_TOKENS`; None where a device's prefill is not known."""
    parts: tuple[Part, ...]
    """In ring order: stage, hop, stage, …; the way back comes last."""

    @property
    def bottleneck(self) -> Part:
        """The part that takes most."""
        return max(self.parts, key=lambda part: part.us)


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages and how they were found."""

    stages: Stages
    predicted: Predicted
    solver: str
    """`cp-sat`, `greedy`, or `rule` where no search was needed."""
    is_optimal: bool = False
    """Whether nothing better is possible by these numbers."""
    solver_ms: float = 0.0
    note: str = ""
    """Why the solver did not answer, in one sentence; empty if it did, or was not needed."""


def bytes_per_layer(model: ModelNumbers, room: Room) -> int:
    """Weights and KV cache of one layer."""
    return model.layer_bytes + model.kv_bytes * room.context * room.slots


def ends_bytes(model: ModelNumbers, first_layer: int, last_layer: int) -> int:
    """What a stage holds besides its layers: the embedding if it is the first, the head if it is the last."""
    embedding = model.embedding_bytes if first_layer == 0 else 0
    head = model.head_bytes if last_layer == model.layers else 0
    return embedding + head


def stage_bytes(model: ModelNumbers, room: Room, first_layer: int, last_layer: int) -> int:
    """Memory of the stage that holds layers `first_layer … last_layer - 1`, without what any stage takes."""
    layers = (last_layer - first_layer) * bytes_per_layer(model, room)
    return layers + ends_bytes(model, first_layer, last_layer)


def in_words(amount_bytes: int) -> str:
    """A size for people: `1.4 GB`."""
    amount, unit = float(amount_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"


def in_list(names: list[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
