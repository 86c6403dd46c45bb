"""What is known of each model architecture: where it may be cut, and what a shard of it must change.

Renumbering layers breaks whatever an architecture computes from the layer index, so one that is not in the table runs
whole on one node. A row is added together with its proof: a tiny model with random weights, whole against every legal
split, equal in every logit. The source of a row is the file of its name under `src/models/` of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import GgufHeader


def _no_factor(_header: GgufHeader) -> float:
    return 1.0


@dataclass(frozen=True, slots=True)
class Architecture:
    """The rules of one architecture. Keys are named without the `<architecture>.` before them."""

    name: str
    per_layer_keys: tuple[str, ...] = ()
    """Keys whose value may be an array with one item per layer: a shard gets the items of its range."""
    model_wide_tensors: tuple[str, ...] = ()
    """Tensors of no single layer that every shard needs."""
    embedding_factor: Callable[[GgufHeader], float] = _no_factor
    """What the graph multiplies looked-up embeddings by, and a first stage must multiply them by itself."""
    whole_only: str = ""
    """Why this architecture is never cut; empty if it may be."""

    def legal_cuts(self, n_layers: int) -> tuple[int, ...]:
        """Layers at which a stage may begin, besides 0."""
        return () if self.whole_only else tuple(range(1, n_layers))


_TABLE = (
    Architecture(
        name="llama",
        per_layer_keys=("attention.head_count", "attention.head_count_kv", "feed_forward_length"),
        model_wide_tensors=("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"),
    ),
)
_BY_NAME = {architecture.name: architecture for architecture in _TABLE}


def architecture(name: str) -> Architecture:
    """The rules of the architecture `name`; one that is not known runs whole."""
    known = _BY_NAME.get(name)
    if known is not None:
        return known
    return Architecture(name, whole_only=f"peerinfer has no proven rules for cutting the architecture {name[:64]!r}")


def per_layer(header: GgufHeader, key: str, n_layers: int, default: int) -> tuple[int, ...]:
    """The whole number under `key` of each layer, whether the file has one for all or an array of them."""
    value = header.metadata.get(key, default)
    if not isinstance(value, np.ndarray):
        return (header.integer(key, default),) * n_layers
    if value.shape != (n_layers,) or value.dtype.kind not in "iu" or min(value.tolist()) < 0:
        raise CorruptModel(f"{header.name} is damaged: {key!r} does not have one number for each of {n_layers} layers.")
    return tuple(int(item) for item in value)


def check_cut(name: str, n_layers: int, first_layer: int, last_layer: int) -> None:
    """Raises `UnsupportedModel` unless layers `first_layer` … `last_layer - 1` may be a stage of their own."""
    if not 0 <= first_layer < last_layer <= n_layers:
        raise UnsupportedModel(f"There are no layers {first_layer}-{last_layer} in a model of {n_layers} layers.")
    rules = architecture(name)
    cuts = {0, n_layers, *rules.legal_cuts(n_layers)}
    if {first_layer, last_layer} <= cuts:
        return
    reason = rules.whole_only or f"it can be cut only at the layers {sorted(cuts - {0, n_layers})}"
    raise UnsupportedModel(
        f"Layers {first_layer}-{last_layer} cannot be a stage: {reason}. Give the range a legal cut."
    )
