"""The other side of the bench: llama.cpp itself, in this process or split over its RPC servers.

`serve PORT THREADS` is one RPC server. `measure SETUP` loads the model as the JSON object SETUP says (see `Rival`),
then answers one JSON line for each JSON line on stdin: `{"streams": 1, "steps": 60, "prompt": [ids]}` →
`{"ms_per_token", "tokens_per_s", "prefill_ms", "token_ids"}`. `callback SETUP` does the same for
`{"steps": 60, "prompt": [ids]}` → `{"plain_ms", "tapped_ms"}`: a token's time without and with a graph callback.

The first two want a llama-cpp-python built with `-DGGML_RPC=ON` on PYTHONPATH (`scripts/setup.py --variant rpc`).
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from peerinfer.engine.llama_native import HiddenTap

llama: Any = llama_cpp
"""The ctypes module; it carries no types."""
CHUNK = 512
CPU_DEVICE = 0
"""GGML_BACKEND_DEVICE_TYPE_CPU in ggml-backend.h."""
NO_SUCH_LAYER = 1_000_000
"""The graph callback is asked about every tensor and never wants one."""


def library(name: str) -> Any:
    """One of ggml's libraries, beside libllama."""
    pattern = {"darwin": f"lib{name}.dylib", "win32": f"{name}.dll"}.get(sys.platform, f"lib{name}.so")
    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / pattern))


def serve(port: int, threads: int) -> None:
    """Serves this machine's CPU to an RPC client until killed."""
    llama.llama_backend_init()
    find = library("ggml").ggml_backend_dev_by_type
    find.restype = ctypes.c_void_p
    start = library("ggml-rpc").ggml_backend_rpc_start_server
    start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    devices = (ctypes.c_void_p * 1)(find(CPU_DEVICE))
    start(f"127.0.0.1:{port}".encode(), None, threads, 1, ctypes.addressof(devices))


def remote_devices(ports: Sequence[int]) -> Any:
    """The null-terminated list of the servers' devices."""
    add = library("ggml-rpc").ggml_backend_rpc_add_server
    add.argtypes, add.restype = [ctypes.c_char_p], ctypes.c_void_p
    get = library("ggml-base").ggml_backend_reg_dev_get
    get.argtypes, get.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p
    found = [get(add(f"127.0.0.1:{port}".encode()), 0) for port in ports]
    return (ctypes.c_void_p * (len(found) + 1))(*found, None)


def shares(layers: int, cut: int) -> Any:
    """`tensor_split` that puts layers below `cut` on the first of two devices, the others and the head on the second.

    llama.cpp compares (layer ÷ (layers + 1)) with these shares; the half keeps rounding out of it.
    """
    split = (ctypes.c_float * int(llama.llama_max_devices()))()
    split[0], split[1] = cut - 0.5, layers + 1 - (cut - 0.5)
    return split


class Rival:
    """The whole model behind plain `llama_decode`."""

    def __init__(
        self,
        *,
        model: str,
        threads: int,
        context: int,
        streams: int = 1,
        ports: Sequence[int] = (),
        layers: int = 0,
        cut: int = 0,
        callback: Any = None,
    ) -> None:
        """`context`: tokens per stream. With `ports`, `layers` of the model are cut at `cut` between two servers."""
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        if ports:
            self._devices, self._shares = remote_devices(ports), shares(layers, cut)
            fields = dict(params._fields_)
            params.devices = ctypes.cast(self._devices, fields["devices"])
            params.tensor_split = ctypes.cast(self._shares, fields["tensor_split"])
            params.n_gpu_layers = 999
        self._model = llama.llama_model_load_from_file(model.encode(), params)
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_seq_max = context * streams, streams
        options.n_batch = options.n_ubatch = options.n_outputs_max = CHUNK
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if callback is not None:
            options.cb_eval = callback
        self._context = llama.llama_init_from_model(self._model, options)
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(CHUNK, 0, 1)

    def run(self, rows: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Runs (token, position, sequence, wanted) rows in one batch; the greedy tokens of the wanted ones."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i], batch.n_seq_id[i] = token, position, wanted, 1
            batch.seq_id[i][0] = sequence
        if llama.llama_decode(self._context, batch):
            raise SystemExit("llama_decode failed")
        return [self._greedy(i) for i, row in enumerate(rows) if row[3]]

    def prefill(self, stream: int, prompt: Sequence[int]) -> int:
        """Runs a prompt in one stream; the first token of its answer."""
        last = len(prompt) - 1
        return self.run([(token, i, stream, i == last) for i, token in enumerate(prompt)])[0]

    def forget(self) -> None:
        """Empties all streams."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)

    def measure(self, streams: int, steps: int, prompt: Sequence[int]) -> dict[str, object]:
        """Prefills `prompt` in each stream, then decodes all streams in one batch per step."""
        self.forget()
        started = time.perf_counter()
        tokens = [self.prefill(stream, prompt) for stream in range(streams)]
        prefill = time.perf_counter() - started
        first_stream = [tokens[0]]
        started = time.perf_counter()
        for step in range(steps):
            tokens = self.run([(token, len(prompt) + step, stream, True) for stream, token in enumerate(tokens)])
            first_stream.append(tokens[0])
        seconds = time.perf_counter() - started
        return {
            "ms_per_token": seconds / steps * 1e3,
            "tokens_per_s": streams * steps / seconds,
            "prefill_ms": prefill / streams * 1e3,
            "token_ids": first_stream,
        }

    def _greedy(self, row: int) -> int:
        logits = llama.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax())


class CallbackCost:
    """The same model twice, with the product's graph callback and without, a step of each by turns."""

    def __init__(self, **setup: Any) -> None:
        self._tap = HiddenTap(NO_SUCH_LAYER)
        self._rivals = {"plain_ms": Rival(**setup), "tapped_ms": Rival(**setup, callback=self._tap.callback)}

    def measure(self, steps: int, prompt: Sequence[int]) -> dict[str, object]:
        """Medians over `steps` tokens of each."""
        times: dict[str, list[float]] = {name: [] for name in self._rivals}
        tokens: dict[str, int] = {}
        for name, rival in self._rivals.items():
            rival.forget()
            tokens[name] = rival.prefill(0, prompt)
        for step in range(steps):
            for name, rival in self._rivals.items():
                started = time.perf_counter()
                tokens[name] = rival.run([(tokens[name], len(prompt) + step, 0, True)])[0]
                times[name].append((time.perf_counter() - started) * 1e3)
        return {name: statistics.median(values) for name, values in times.items()}


def answer(measure: Callable[..., dict[str, object]]) -> None:
    """Serves lines from stdin until it closes."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), flush=True)


def main(arguments: Sequence[str]) -> None:
    """`serve PORT THREADS`, `measure SETUP` or `callback SETUP`."""
    match arguments:
        case ["serve", port, threads]:
            serve(int(port), int(threads))
        case ["measure", setup]:
            answer(Rival(**json.loads(setup)).measure)
        case ["callback", setup]:
            answer(CallbackCost(**json.loads(setup)).measure)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
