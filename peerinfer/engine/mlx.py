"""MLX as a stage engine: the same shard file in, the same hidden states or logits out, through blocks of `mlx_lm`.

A stage is its list of blocks, with the KV cache, the positions and the windows of `mlx_layers.py`; a first stage looks
embeddings up as every first stage does, a last one has norm and head. Hidden states at the border of a layer mean the
same as in llama.cpp, so stages of both mix freely.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx import nn

from peerinfer.engine.base import WHOLE_CACHE_TYPES, Hidden, Logits, Progress, StageSpec, TokenIds, check_options
from peerinfer.engine.batching import batching_pays
from peerinfer.engine.mlx_families import FUSED_HEADS, Family, Numbers, factors_name, norm, numbers, put, rope
from peerinfer.engine.mlx_layers import Cache, Linear, evaluate, to_numpy
from peerinfer.engine.mlx_weights import WeightReader
from peerinfer.engine.rows import Piece, pieces
from peerinfer.errors import CorruptModel, EngineError, UnsupportedModel
from peerinfer.models.architecture_rules import EMBEDDING_TENSOR, HEAD_TENSOR, NORM_TENSOR
from peerinfer.models.embedding import EmbeddingTable
from peerinfer.models.facts import layer_of
from peerinfer.models.gguf import GgufHeader, TensorInfo
from peerinfer.models.mlx_rules import MLX_RULES, mlx_bytes
from peerinfer.models.model_file import read_model
from peerinfer.net.frames import Row

CACHE_KINDS: Final = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
WORKING_SET_SHARE: Final = 0.95
"""Of what Metal recommends at most: the rest is for what a step computes in between."""


class MlxStage:
    """One stage of a model in this process. See `StageEngine` for the contract."""

    def __init__(self, spec: StageSpec, progress: Progress) -> None:
        """Loads the shard.

        Raises `UnsupportedModel` if MLX cannot run it or options contradict each other, `EngineError` if there is too
        little memory.
        """
        check_options(spec)
        self.spec = spec
        header = read_model(Path(spec.shard_path))
        if any(tensor.part for tensor in header.tensors):
            raise UnsupportedModel("MLX cannot run a model in several files whole. Split it over two nodes.")
        self._numbers = numbers(header)
        self._cache_kinds = _cache_kinds(spec)
        _check_room(header, self.kv_bytes)
        reader = WeightReader(Path(spec.shard_path))
        try:
            self._blocks = _Loader(header, self._numbers, spec, reader).blocks(progress)
            self._norm, self._head = _ends(header, self._numbers, reader) if spec.kind != "trunk" else (None, None)
        finally:
            reader.close()
        self.conversion_loss = reader.loss.relative
        self._embedding = EmbeddingTable(Path(spec.model_path)) if spec.first else None
        told, kinds = self._numbers, self._cache_kinds
        self._caches = [Cache(spec.slots, told.kv_heads, spec.context, told.head_size, kinds) for _ in self._blocks]
        evaluate([(cache.keys, cache.values) for cache in self._caches])
        self.batch_rows = False
        self.batch_rows = batching_pays(self, lambda: None)

    def forward(self, rows: Sequence[Row], tokens: TokenIds | None, hidden: Hidden | None) -> Hidden | Logits:
        """See `StageEngine.forward`."""
        spec = self.spec
        if tokens is not None and self._embedding is not None:
            hidden = self._embedding.rows(tokens)
        if hidden is None:
            raise EngineError("A step without input.")
        trunk = spec.kind == "trunk"
        outputs = sum(row.count if trunk else row.sample for row in rows)
        out = np.empty((outputs, spec.n_embd if trunk else spec.n_vocab), np.float32)
        for call in pieces(rows, spec.chunk, together=self.batch_rows):
            self._run(call, hidden, out)
        return out

    def truncate(self, slot: int, length: int) -> None:
        """See `StageEngine.truncate`. Nothing to do: what lies behind a length is masked, or written over first."""

    def close(self) -> None:
        """See `StageEngine.close`."""
        self._blocks, self._caches, self._norm, self._head = [], [], None, None
        if self._embedding is not None:
            self._embedding.close()
        mx.clear_cache()

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache."""
        told, spec = self._numbers, self.spec
        each = sum(kind.size for kind in self._cache_kinds) * told.kv_heads * told.head_size
        return each * spec.layers * spec.context * spec.slots

    def layer(self, number: int, states: Hidden) -> tuple[Hidden, Hidden]:
        """One layer alone, on a sequence in slot 0 from position 0 on, for `parity.py`: the keys in its cache, shape
        (tokens, heads times size), and the hidden states behind it. `states`: (tokens, n_embd).
        """
        piece = Piece(0, 0, len(states), 0, 0, False)
        window = self._numbers.window if self._numbers.slides[number] else 0
        sight, cache = self._sight([piece], window), self._caches[number]
        cache.aim([0], [0], 0, sight.first)
        made: mx.array = self._blocks[number](mx.array(states)[None], sight.mask, cache)
        return to_numpy(cache.keys_of(0, len(states))), to_numpy(made[0])

    def logits(self, states: Hidden) -> Logits:
        """Norm and head on hidden states, shape (tokens, n_embd). Raises `EngineError` on a stage without a head."""
        return to_numpy(self._squeezed(mx.array(states)))

    def _run(self, call: list[Piece], hidden: Hidden, out: Hidden) -> None:
        """One call: one sequence of several tokens, or several sequences of one token each."""
        single = len(call) == 1
        first = call[0]
        source = [piece.source for piece in call]
        taken = hidden[first.source : first.source + first.count] if single else hidden[source]
        states = mx.array(taken)[None] if single else mx.array(taken)[:, None]
        try:
            states = self._through(call, states)
            states = states.flatten(0, 1)
            if self.spec.kind == "trunk":
                where: Any = slice(first.source, first.source + first.count) if single else source
                out[where] = to_numpy(states)
                return
            self._write_logits(call, states, out)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"MLX could not run {sum(piece.count for piece in call)} tokens ({error}).") from None

    def _through(self, call: list[Piece], states: mx.array) -> mx.array:
        told = self._numbers
        slots, positions = [piece.slot for piece in call], [piece.position for piece in call]
        offset = positions[0] if len(call) == 1 else mx.array(positions)
        ways = {slides: self._sight(call, told.window if slides else 0) for slides in set(told.slides)}
        for block, cache, slides in zip(self._blocks, self._caches, told.slides, strict=True):
            way = ways[slides]
            cache.aim(slots, positions, offset, way.first)
            states = block(states, way.mask, cache)
        is_sound = mx.isfinite(states).all()
        evaluate(states, is_sound, [(cache.keys, cache.values) for cache in self._caches])
        if not is_sound.item():
            for cache in self._caches:
                cache.wipe(call[0].count)
            evaluate([(cache.keys, cache.values) for cache in self._caches])
        return states

    def _sight(self, call: list[Piece], window: int) -> _Sight:
        told = self._numbers
        by_group = MLX_RULES[told.architecture].masks_by_group and told.heads > told.kv_heads
        return _Sight(call, window, by_group=by_group)

    def _write_logits(self, call: list[Piece], states: mx.array, out: Logits) -> None:
        ends = np.cumsum([piece.count for piece in call]) - 1
        wanted = [(piece.target, int(end)) for piece, end in zip(call, ends, strict=True) if piece.sample]
        if wanted:
            logits = self._squeezed(states[mx.array([end for _, end in wanted])])
            out[[target for target, _ in wanted]] = to_numpy(logits)

    def _squeezed(self, states: mx.array) -> mx.array:
        """Norm, head, and the bound that some models set to their logits."""
        if self._norm is None or self._head is None:
            raise EngineError("A trunk has no head.")
        logits, cap = self._head(self._norm(states)), self._numbers.logit_cap
        return mx.tanh(logits / cap) * cap if cap else logits


class _Sight:
    """What the tokens of one call look at in the layers of one kind: from which position on, and the mask."""

    def __init__(self, call: list[Piece], window: int, *, by_group: bool) -> None:
        """`window` 0: everything before. The mask: (sequences, 1, tokens, keys), `by_group` with one more 1."""
        count = call[0].count
        starts = [piece.position for piece in call]
        end = max(starts) + count
        self.first = max(0, min(starts) + 1 - window) if window else 0
        if len(call) == 1 and count == 1:
            self.mask: mx.array | None = None
            return
        keys = mx.arange(self.first, end)[None, None, None, :]
        tokens = mx.array(starts)[:, None, None, None] + mx.arange(count)[None, None, :, None]
        mask = keys <= tokens
        mask = mask & (keys > tokens - window) if window else mask
        self.mask = mask[:, None] if by_group else mask


class _Loader:
    """Builds the blocks of a stage."""

    def __init__(self, header: GgufHeader, told: Numbers, spec: StageSpec, reader: WeightReader) -> None:
        self._header = header
        self._told = told
        self._spec = spec
        self._reader = reader
        self._family = Family(told.architecture)
        self._parts: dict[tuple[int, str], TensorInfo] = {}
        """By layer and name within it, such as `attn_q.weight`."""
        for tensor in header.tensors:
            place = layer_of(tensor.name)
            if place is not None:
                self._parts[place] = tensor

    def blocks(self, progress: Progress) -> list[Any]:
        """All blocks, in order. Raises `UnsupportedModel`, `CorruptModel`."""
        made: list[Any] = []
        factors = self._factors()
        for layer in range(self._spec.layers):
            made.append(self._block(layer, factors))
            progress((layer + 1) / self._spec.layers)
        return made

    def _block(self, layer: int, factors: Hidden | None) -> Any:
        told, slides = self._told, self._told.slides[layer]
        block = self._family.block(told, slides=slides, layers=len(told.slides))
        on_gpu = mx.default_device() == mx.Device(mx.gpu)
        is_fused = on_gpu and told.head_size in FUSED_HEADS and told.architecture != "gemma2"
        out = mx.float16 if is_fused else mx.float32
        put(block, "self_attn.rope", rope(self._header, factors, slides=slides, out=out))
        for stem, path in self._family.rules.names.items():
            weight, bias = (self._parts.get((layer, f"{stem}.{part}")) for part in ("weight", "bias"))
            if weight is None:
                raise CorruptModel(f"{self._header.name} is damaged: layer {layer} has no {stem!r}. Fetch it again.")
            if "norm" in stem:
                put(block, path, norm(self._reader.vector(weight), told.norm_epsilon))
            else:
                put(block, path, Linear(self._reader.matrix(weight), self._reader.vector(bias) if bias else None))
        return block

    def _factors(self) -> Hidden | None:
        tensor = self._header.by_name.get(factors_name(self._header, self._spec.context))
        return None if tensor is None else to_numpy(self._reader.vector(tensor))


def _ends(header: GgufHeader, told: Numbers, reader: WeightReader) -> tuple[nn.RMSNorm, Linear]:
    head = header.by_name.get(HEAD_TENSOR) or header.by_name[EMBEDDING_TENSOR]
    if NORM_TENSOR not in header.by_name:
        raise CorruptModel(f"{header.name} is damaged: it has no final norm. Fetch or convert it again.")
    final = norm(reader.vector(header.by_name[NORM_TENSOR]), told.norm_epsilon)
    return final, Linear(reader.matrix(head))


def _cache_kinds(spec: StageSpec) -> tuple[mx.Dtype, mx.Dtype]:
    for kind in (spec.cache_type_k, spec.cache_type_v):
        if kind not in CACHE_KINDS:
            raise UnsupportedModel(
                f"MLX stages cannot keep their KV cache as {kind}. Choose one of {', '.join(WHOLE_CACHE_TYPES)}."
            )
    return CACHE_KINDS[spec.cache_type_k], CACHE_KINDS[spec.cache_type_v]


def _check_room(header: GgufHeader, kv_bytes: int) -> None:
    """Raises `EngineError` if weights and cache are more than Metal lets one process work with."""
    if not mx.metal.is_available():
        return
    limit = int(mx.device_info()["max_recommended_working_set_size"]) * WORKING_SET_SHARE
    weights = sum(map(mlx_bytes, header.tensors))
    if weights + kv_bytes > limit:
        raise EngineError(
            f"These layers need {(weights + kv_bytes) / 1e9:.1f} GB, and Metal allows {limit / 1e9:.1f} GB here. "
            "Use a smaller context or fewer slots, or let more machines share the model."
        )
