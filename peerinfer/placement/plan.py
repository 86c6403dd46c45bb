"""What a planner is given and what it answers: numbers of a model, nodes with free bytes, stages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelNumbers:
    """What placement needs to know of a model. Sizes in bytes."""

    layers: int
    layer_bytes: int
    """Weights of one layer; of the heaviest where layers differ."""
    embedding_bytes: int
    head_bytes: int
    kv_bytes: int
    """KV cache of one token in one layer."""
    legal_cuts: tuple[int, ...] | None = None
    """Layers at which a stage may begin, besides 0; None = any; empty = the model runs whole."""

    def cuts(self) -> tuple[int, ...]:
        """All places where a stage may begin or end, in order: 0, the legal cuts, the number of layers."""
        inner = range(1, self.layers) if self.legal_cuts is None else sorted(set(self.legal_cuts))
        return (0, *(cut for cut in inner if 0 < cut < self.layers), self.layers)


@dataclass(frozen=True, slots=True)
class Room:
    """What a model's stages will serve: `context` tokens in each of `slots` sequences."""

    context: int
    slots: int


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """A node that may hold stages, and the bytes it may use for them."""

    node: str
    name: str
    usable_bytes: int


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that may not, and why: `reason` completes "NAME …"."""

    node: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlacedStage:
    """Layers `first_layer … last_layer - 1` on `node`, which take `memory_bytes` there."""

    node: str
    first_layer: int
    last_layer: int
    memory_bytes: int


def bytes_per_layer(model: ModelNumbers, room: Room) -> int:
    """Weights and KV cache of one layer."""
    return model.layer_bytes + model.kv_bytes * room.context * room.slots


def ends_bytes(model: ModelNumbers, first_layer: int, last_layer: int) -> int:
    """What a stage holds besides its layers: the embedding if it is the first, the head if it is the last."""
    embedding = model.embedding_bytes if first_layer == 0 else 0
    head = model.head_bytes if last_layer == model.layers else 0
    return embedding + head


def stage_bytes(model: ModelNumbers, room: Room, first_layer: int, last_layer: int) -> int:
    """Memory of the stage that holds layers `first_layer … last_layer - 1`."""
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
