"""The rules of one architecture: where it may be cut, and which keys a shard of it must have instead of the model's.

A rule is given the header of the model, for what is legal may depend on it. Keys are named without `<architecture>.`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peerinfer.errors import CorruptModel
from peerinfer.models.gguf import GgufHeader, ValueType

Entry = tuple[Any, ValueType, ValueType | None]
"""A metadata value as the gguf package takes it, its type, and the type of its items."""

EMBEDDING_TENSOR = "token_embd.weight"
"""The table of token embeddings, one row of `n_embd` numbers for each token."""
HEAD_TENSOR = "output.weight"
"""The head; a model without it uses the embedding table (tied embeddings)."""
NORM_TENSOR = "output_norm.weight"
"""The final norm, before the head."""
NORM_BIAS_TENSOR = "output_norm.bias"
HEAD_BIAS_TENSOR = "output.bias"
"""What some architectures add behind the final norm and behind the head."""
END_TENSORS = (EMBEDDING_TENSOR, HEAD_TENSOR, NORM_TENSOR, NORM_BIAS_TENSOR, HEAD_BIAS_TENSOR)
"""Tensors of the first and the last stage."""

PATTERN_KEY = "attention.sliding_window_pattern"
"""Which layers look at a window only: one truth value for each layer, or a period."""
WINDOW_KEY = "attention.sliding_window"
"""Tokens in the window of a sliding layer."""
DENSE_LEAD_KEY = "leading_dense_block_count"
"""How many layers from the first have no experts."""
PER_LAYER_KEYS = (
    "attention.head_count",
    "attention.head_count_kv",
    "feed_forward_length",
    "expert_feed_forward_length",
    "expert_used_count",
)
"""Keys that may be arrays for any architecture (llama.cpp, `llama_model_base::load_hparams`)."""


def number(header: GgufHeader, key: str, default: int | None = None) -> int:
    """The whole number ≥ 0 under the key of this architecture. Raises `CorruptModel` without one or a default."""
    return header.integer(f"{header.text('general.architecture')}.{key}", default)


def full_key(name: str, key: str) -> str:
    """`key` as it stands in a file of the architecture `name`; one of apertus begins with its activation instead."""
    return key if key.startswith("xielu.") else f"{name}.{key}"


def stored_layers(header: GgufHeader) -> int:
    """Layers in the file, those that only guess further tokens (`nextn_predict_layers`) included."""
    return number(header, "block_count")


def layer_array(header: GgufHeader, key: str, kinds: str) -> npt.NDArray[np.generic] | None:
    """The array under `key`, which must have one item per layer of a numpy kind in `kinds`; None if it is no array."""
    value = header.metadata.get(full_key(header.text("general.architecture"), key))
    if not isinstance(value, np.ndarray):
        return None
    n_layers = stored_layers(header)
    if value.shape != (n_layers,) or value.dtype.kind not in kinds:
        raise CorruptModel(
            f"{header.name} is damaged: {key!r} does not have one item for each of {n_layers} layers. "
            "Fetch or convert it again."
        )
    return value


def _always(_header: GgufHeader) -> bool:
    return True


def window_is_set(header: GgufHeader) -> bool:
    """Whether the model has a window at all, for architectures whose older models have none."""
    return number(header, WINDOW_KEY, 0) > 0


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Layers of two kinds in a pattern (llama.cpp, `load_swa_pattern` and `set_swa_pattern`).

    llama.cpp aborts without any sliding layer (`create_memory`), so each stage must have one.
    """

    period: int
    """Of `period` layers one sees everything, unless the file says otherwise."""
    dense_first: bool = False
    """Whether the one that sees everything is the first of them rather than the last."""
    active: Callable[[GgufHeader], bool] = _always

    def pattern(self, header: GgufHeader) -> list[bool]:
        """Whether each stored layer slides. Raises `CorruptModel` for a pattern that is none."""
        n_layers = stored_layers(header)
        given = layer_array(header, PATTERN_KEY, "bui")
        if given is not None:
            return [bool(item) for item in given]
        period = number(header, PATTERN_KEY, self.period)
        dense = 0 if self.dense_first else period - 1
        return [period == 0 or layer % period != dense for layer in range(n_layers)]

    def cuts(self, candidates: Iterable[int], header: GgufHeader, n_layers: int) -> tuple[int, ...]:
        """Those of `candidates`, in order, between any two of which a layer slides; so one does before and behind."""
        slides = self.pattern(header)[:n_layers]
        kept = [0]
        for cut in candidates:
            if any(slides[kept[-1] : cut]) and any(slides[cut:]):
                kept.append(cut)
        return tuple(kept[1:])


def _both_ends_are_whole(header: GgufHeader, cut: int) -> bool:
    """Whether the layer before `cut` feeds forward and the one behind has keys, as deci's do not all (`deci.cpp`).

    A layer that does not feed forward publishes no hidden states; a stage's first layer gives the size of its heads.
    """
    widths = layer_array(header, "feed_forward_length", "iu")
    heads = layer_array(header, "attention.head_count_kv", "iu")
    return (widths is None or bool(widths[cut - 1])) and (heads is None or bool(heads[cut]))


def _no_factor(_header: GgufHeader) -> float:
    return 1.0


def _no_reason(_header: GgufHeader, _n_layers: int) -> str:
    return ""


def _every_layer(_header: GgufHeader, _n_layers: int) -> int:
    return 1


def _nothing(_header: GgufHeader, _n_layers: int) -> Mapping[str, Entry]:
    return {}


@dataclass(frozen=True, slots=True)
class Architecture:
    """The rules of one architecture."""

    name: str
    note: str = ""
    """What is special about its shards, for the table that people read."""
    cuts: str = "anywhere"
    """Where it may be cut, for the same table."""
    per_layer_keys: tuple[str, ...] = PER_LAYER_KEYS
    """Keys whose value may be an array with one item per layer: a shard gets the items of its range."""
    whole_arrays: tuple[str, ...] = ("rope.dimension_sections",)
    """Arrays that are of no layer, which every shard has as they are."""
    required_keys: tuple[str, ...] = ("attention.head_count",)
    """Keys without which no layer can be understood."""
    sliding: SlidingWindow | None = None
    model_wide_tensors: tuple[str, ...] = (
        "rope_freqs.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
    )
    """Tensors of no single layer that every shard needs."""
    only_for_dense: bool = False
    """llama.cpp refuses those tensors in a shard of sliding layers only."""
    head_required: bool = False
    """llama.cpp insists on `output.weight`, so a shard cannot give the head as the embedding table alone."""
    embedding_factor: Callable[[GgufHeader], float] = _no_factor
    """What the graph multiplies looked-up embeddings by, and a first stage must multiply them by itself."""
    input_tensor: str = ""
    """A tensor of the graph into which a stage's input is written, past what the graph does to any input before it."""
    fed_as_tokens: bool = False
    """llama.cpp takes no hidden states for input: a stage is given tokens, and its input written over theirs."""
    cut_step: Callable[[GgufHeader, int], int] = _every_layer
    """A stage begins only at multiples of this, given the number of layers, and has at least so many of them."""
    rewritten: Callable[[GgufHeader, int], Mapping[str, Entry]] = _nothing
    """Keys that every shard has instead of the model's, given the model's number of layers."""
    refusal: Callable[[GgufHeader, int], str] = _no_reason
    """Why a model of this architecture with this header and number of layers runs whole; empty if it may be cut."""
    whole_only: str = ""
    """Why this architecture is never cut; empty if it may be."""

    def why_whole(self, header: GgufHeader, n_layers: int) -> str:
        """Why the model with this header runs whole on one node only; empty if it may be cut."""
        if self.whole_only:
            return self.whole_only
        return self._unknown_array(header) or self._unknown_tensor(header) or self.refusal(header, n_layers)

    def legal_cuts(self, header: GgufHeader, n_layers: int) -> tuple[int, ...]:
        """Layers at which a stage may begin, besides 0."""
        if self.why_whole(header, n_layers):
            return ()
        step = self.cut_step(header, n_layers)
        cuts = [cut for cut in range(step, n_layers - step + 1, step) if _both_ends_are_whole(header, cut)]
        if self.sliding is None or not self.sliding.active(header):
            return tuple(cuts)
        return self.sliding.cuts(cuts, header, n_layers)

    def slides(self, header: GgufHeader) -> list[bool]:
        """Whether each stored layer sees a window only; empty if none does."""
        return self.sliding.pattern(header) if self.sliding is not None and self.sliding.active(header) else []

    def check_keys(self, header: GgufHeader) -> None:
        """Raises `CorruptModel` if a key is missing without which a layer is not understood, or has a wrong length."""
        if self.whole_only:
            return
        for key in self.required_keys:
            if self.full_key(key) not in header.metadata:
                raise CorruptModel(f"{header.name} is damaged: it has no {key!r}. Fetch or convert it again.")
        for key in self.per_layer_keys:
            layer_array(header, key, "uif")
        self.slides(header)

    def stage_keys(self, header: GgufHeader, n_layers: int, first_layer: int, last_layer: int) -> dict[str, Entry]:
        """The keys that the shard of this range must have in place of the model's, or besides those."""
        keys: dict[str, Entry] = {
            "block_count": (last_layer - first_layer, ValueType.UINT32, None),
            **self.rewritten(header, n_layers),
            **self._head_sizes(header),
        }
        for key in self.per_layer_keys:
            values = layer_array(header, key, "uif")
            if values is not None:
                items = header.types[self.full_key(key)][1]
                keys[key] = (values[first_layer:last_layer].tolist(), ValueType.ARRAY, items)
        slides = self.slides(header)
        if slides:
            keys[PATTERN_KEY] = (slides[first_layer:last_layer], ValueType.ARRAY, ValueType.BOOL)
        if number(header, DENSE_LEAD_KEY, 0):
            dense = max(0, number(header, DENSE_LEAD_KEY) - first_layer)
            keys[DENSE_LEAD_KEY] = (dense, ValueType.UINT32, None)
        if number(header, "nextn_predict_layers", 0):
            keys["nextn_predict_layers"] = (0, ValueType.UINT32, None)
        return {self.full_key(key): entry for key, entry in keys.items()}

    def shared_tensors(self, header: GgufHeader, first_layer: int, last_layer: int) -> tuple[str, ...]:
        """Names of the tensors of no single layer that the shard of this range has, if the model does."""
        needless = self.only_for_dense and all(self.slides(header)[first_layer:last_layer])
        return () if needless else self.model_wide_tensors

    def full_key(self, key: str) -> str:
        """`key` as it stands in a file."""
        return full_key(self.name, key)

    def _head_sizes(self, header: GgufHeader) -> Mapping[str, Entry]:
        """llama.cpp infers the size of a head from how many the first layer has: said outright if layers differ."""
        heads = layer_array(header, "attention.head_count", "iu")
        if heads is None or not heads[0]:
            return {}
        size = number(header, "embedding_length") // int(heads[0])
        keys = ("attention.key_length", "attention.value_length")
        return {key: (number(header, key, size), ValueType.UINT32, None) for key in keys}

    def _unknown_array(self, header: GgufHeader) -> str:
        known = {self.full_key(key) for key in (*self.per_layer_keys, *self.whole_arrays)}
        if self.sliding is not None:
            known.add(f"{self.name}.{PATTERN_KEY}")
        for key, (kind, _) in header.types.items():
            if kind is ValueType.ARRAY and key.startswith(f"{self.name}.") and key not in known:
                return f"what each item of its key {key[:64]!r} is for is not known"
        return ""

    def _unknown_tensor(self, header: GgufHeader) -> str:
        known = {*END_TENSORS, *self.model_wide_tensors}
        for tensor in header.tensors:
            if not tensor.name.startswith("blk.") and tensor.name not in known:
                return f"what its tensor {tensor.name!r} is for is not known"
        return ""
