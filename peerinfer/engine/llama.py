"""llama.cpp as a stage engine: a shard file in, hidden states or logits out, through the stock llama-cpp-python.

A trunk is a GGUF with fewer layers. Its input goes in as `llama_batch.embd`; its output is read by the graph
callback (`llama_context_params.cb_eval`) from the tensor `l_out-<last layer>`, where the graph is stopped, so
that norm and head are never computed. Source: llama.cpp `src/llama-context.cpp` (decode, graph callback) and
`ggml/src/ggml-backend.cpp` (`ggml_backend_sched_compute_splits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gguf.constants import GGMLQuantizationType

from peerinfer.engine.base import Hidden, Logits, Progress, StageSpec, TokenIds, check_options
from peerinfer.engine.batching import batching_pays
from peerinfer.engine.llama_native import Batch, HiddenTap, NativeLog, llama
from peerinfer.engine.rows import Piece, pieces
from peerinfer.errors import EngineError, UnsupportedModel
from peerinfer.models.architectures import architecture
from peerinfer.models.embedding import EmbeddingTable
from peerinfer.models.facts import cache_bytes, model_facts
from peerinfer.models.model_file import read_model
from peerinfer.net.frames import Row

_FLASH_ATTENTION: dict[str, int] = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


class LlamaStage:
    """One stage of a model in this process. See `StageEngine` for the contract."""

    reads_layers = False
    """Whether hidden states are read behind every layer: see `llama_reference.py`."""

    def __init__(self, spec: StageSpec, progress: Progress) -> None:
        """Loads the shard.

        Raises `UnsupportedModel` if llama.cpp refuses it or options contradict each other, `EngineError` if there is
        too little memory.
        """
        check_options(spec)
        self.spec = spec
        self._log = NativeLog()
        llama.llama_backend_init()
        header = read_model(Path(spec.shard_path))
        self._token_bytes = cache_bytes(model_facts(header).kv_widths, spec.cache_type_k, spec.cache_type_v)
        rules = architecture(header.text("general.architecture"))
        self._fed_as_tokens = rules.fed_as_tokens and spec.kind != "whole"
        self._tap = self._make_tap(rules.input_tensor)
        self._embedding = EmbeddingTable(Path(spec.model_path)) if spec.first and spec.kind != "whole" else None
        self._model: Any = self._load(progress)
        self._context: Any = self._make_context()
        self._memory: Any = llama.llama_get_memory(self._context)
        self._batch = Batch(spec.chunk)
        self.batch_rows = False
        self.batch_rows = batching_pays(self, lambda: llama.llama_memory_clear(self._memory, True))

    def _make_tap(self, input_tensor: str) -> HiddenTap | None:
        trunk = self.spec.kind == "trunk"
        if self.spec.kind == "whole" or not (trunk or input_tensor):
            return None
        return HiddenTap(self.spec.layers if trunk else 0, input_tensor)

    def _load(self, progress: Progress) -> Any:
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 999 if self.spec.gpu_layers < 0 else self.spec.gpu_layers

        def report(share: float, _: object) -> bool:
            progress(share)
            return True

        callback: Any = llama.llama_progress_callback(report)
        params.progress_callback = callback
        model = llama.llama_model_load_from_file(self.spec.shard_path.encode(), params)
        if not model:
            raise UnsupportedModel(f"llama.cpp cannot load this model.{self._log.last()}")
        return model

    def _make_context(self) -> Any:
        spec, params = self.spec, llama.llama_context_default_params()
        params.n_ctx = spec.context * spec.slots
        params.n_seq_max = spec.slots
        params.kv_unified = False
        params.n_batch = params.n_ubatch = params.n_outputs_max = spec.chunk
        params.n_outputs_max_per_seq = spec.chunk if spec.kind == "trunk" or self.reads_layers else 1
        threads = spec.threads or psutil.cpu_count(logical=False) or 1
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = _FLASH_ATTENTION[spec.flash_attention]
        params.type_k, params.type_v = (
            int(GGMLQuantizationType[kind.upper()]) for kind in (spec.cache_type_k, spec.cache_type_v)
        )
        if self._tap is not None:
            params.cb_eval = self._tap.callback
        context = llama.llama_init_from_model(self._model, params)
        if not context:
            raise EngineError(
                f"llama.cpp could not make a context of {spec.slots} × {spec.context} tokens; "
                f"there may be too little memory: try a smaller context or fewer slots.{self._log.last()}"
            )
        return context

    def forward(self, rows: Sequence[Row], tokens: TokenIds | None, hidden: Hidden | None) -> Hidden | Logits:
        """See `StageEngine.forward`."""
        if tokens is not None and self._embedding is not None:
            hidden, tokens = self._embedding.rows(tokens), None
        total = sum(row.count for row in rows)
        spec = self.spec
        if spec.kind == "trunk":
            out = np.empty((total, spec.n_embd), np.float32)
        else:
            out = np.empty((sum(row.sample for row in rows), spec.n_vocab), np.float32)
        for call in pieces(rows, spec.chunk, together=self.batch_rows):
            self._decode(call, tokens, hidden, out)
        return out

    def truncate(self, slot: int, length: int) -> None:
        """See `StageEngine.truncate`."""
        if llama.llama_memory_seq_rm(self._memory, slot, length, -1):
            return
        llama.llama_memory_seq_rm(self._memory, slot, -1, -1)
        raise EngineError(
            "This model keeps a running state, from which a suffix cannot be taken back. Send the request again."
        )

    def close(self) -> None:
        """See `StageEngine.close`."""
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache, by the model's own shape and the types of the cache."""
        return self._token_bytes * self.spec.layers * self.spec.context * self.spec.slots

    def _decode(self, call: list[Piece], tokens: TokenIds | None, hidden: Hidden | None, out: Hidden) -> None:
        trunk = self.spec.kind == "trunk"
        count = self._batch.fill(call, all_outputs=trunk)
        alive = self._batch.feed(call, tokens, hidden, by_token=self._fed_as_tokens)
        gathered = len(call) > 1
        sink = np.empty((count, out.shape[1]), np.float32) if gathered else out[call[0].source :][:count]
        if self._tap is not None:
            self._tap.aim(sink, np.asarray(alive, np.float32))
        result = int(llama.llama_decode(self._context, self._batch.struct))
        if result != 0 or (self._tap is not None and not self._tap.passed(count, trunk)):
            raise EngineError(f"llama.cpp could not run {count} tokens (result {result}).{self._log.last()}")
        del alive
        if trunk and gathered:
            out[[piece.source for piece in call]] = sink
        if not trunk:
            self._read_logits(call, out)

    def _read_logits(self, call: list[Piece], out: Logits) -> None:
        at = 0
        for piece in call:
            at += piece.count
            if piece.sample:
                logits = llama.llama_get_logits_ith(self._context, at - 1)
                out[piece.target] = np.ctypeslib.as_array(logits, (self.spec.n_vocab,))


def offloads() -> bool:
    """Whether this llama.cpp was built to compute with accelerators, and finds one."""
    return bool(llama.llama_supports_gpu_offload())
