"""What is known of each model architecture: where it may be cut, and what a shard of it must change.

Renumbering layers breaks whatever an architecture computes from the layer index, so one that is not in the table runs
whole on one node. A row is added together with its proof: a tiny model with random weights, whole against every legal
split, equal in every logit.
"""

from __future__ import annotations

from peerinfer.models.architecture_rules import Architecture, layer_array
from peerinfer.models.architecture_table import ROWS
from peerinfer.models.architecture_whole import WHOLE_ROWS
from peerinfer.models.gguf import GgufHeader

TABLE = (*ROWS, *WHOLE_ROWS)
"""All architectures of which something is known, those that may be cut first."""

_BY_NAME = {architecture.name: architecture for architecture in TABLE}


def architecture(name: str) -> Architecture:
    """The rules of the architecture `name`; one that is not known runs whole."""
    known = _BY_NAME.get(name)
    if known is not None:
        return known
    return Architecture(name, whole_only=f"peerinfer has no proven rules for cutting the architecture {name[:64]!r}")


def per_layer(header: GgufHeader, key: str, default: int) -> list[int]:
    """The whole number under `key` of each stored layer, whether the file has one for all or an array of them.

    `key` is named without the architecture. Raises `CorruptModel` for an array of another length or negative numbers.
    """
    name = header.text("general.architecture")
    values = layer_array(header, key, "iu")
    if values is None:
        return [header.integer(f"{name}.{key}", default)] * max(1, header.integer(f"{name}.block_count"))
    numbers = [int(item) for item in values]
    if min(numbers, default=0) < 0:
        header.integer(f"{name}.{key}")  # an array is no whole number, so this raises the sentence for a wrong value
    return numbers
