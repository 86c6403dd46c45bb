"""What llama.cpp computes behind each layer of a stage, on the processor: what other engines are held to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peerinfer.engine.base import Hidden, Logits, StageSpec
from peerinfer.engine.llama import LlamaStage
from peerinfer.engine.llama_native import HiddenTap, LayerTap, llama
from peerinfer.engine.rows import Piece
from peerinfer.errors import EngineError
from peerinfer.models.facts import model_facts
from peerinfer.models.model_file import read_model


@dataclass(frozen=True, slots=True)
class Trace:
    """What a stage computed, layer by layer."""

    keys: Hidden
    """As each layer put them into its cache, their positions turned in, shape (layers, tokens, heads times size)."""
    states: Hidden
    """Hidden states behind each layer, shape (layers, tokens, n_embd)."""
    logits: Logits | None
    """Shape (tokens, vocabulary), where there is a head."""


class LlamaReference(LlamaStage):
    """A stage that gives away what is behind each of its layers. Its weights stay in the file, which is mapped."""

    reads_layers = True

    def __init__(self, spec: StageSpec, tokens: int) -> None:
        """For one sequence of at most `tokens`. Raises as `LlamaStage`."""
        self._tokens = tokens
        header = read_model(Path(spec.shard_path))
        by_length = "rope_factors_long.weight" in header.by_name
        self._key_width = model_facts(header).kv_widths[0]
        context = spec.context if by_length else tokens  # positions turn otherwise in longer contexts
        shape = replace(spec, context=context, slots=1, chunk=tokens, gpu_layers=0, flash_attention="off")
        super().__init__(replace(shape, cache_type_k="f16", cache_type_v="f16"), lambda _: None)

    def _make_tap(self, input_tensor: str) -> HiddenTap:
        spec = self.spec
        self._layers_tap = LayerTap(spec.layers, input_tensor, self._tokens, spec.n_embd, self._key_width)
        return self._layers_tap

    def trace(self, states: Hidden) -> Trace:
        """What comes of `states`, which go into the first layer, shape (tokens, n_embd). Raises `EngineError`."""
        call = [Piece(0, 0, len(states), 0, 0, True)]
        self.truncate(0, 0)
        count = self._batch.fill(call, all_outputs=True)
        alive = self._batch.feed(call, None, states, by_token=self._fed_as_tokens)
        self._layers_tap.aim(np.empty((0, 0), np.float32), np.asarray(alive, np.float32))
        result = int(llama.llama_decode(self._context, self._batch.struct))
        if result != 0 or self._layers_tap.unread:
            raise EngineError(f"llama.cpp could not run {count} tokens (result {result}).{self._log.last()}")
        logits = None if self.spec.kind == "trunk" else self._all_logits(count)
        return Trace(self._layers_tap.keys.copy(), self._layers_tap.states.copy(), logits)

    def _all_logits(self, count: int) -> Logits:
        rows = [llama.llama_get_logits_ith(self._context, row) for row in range(count)]
        return np.stack([np.ctypeslib.as_array(row, (self.spec.n_vocab,)).copy() for row in rows])
