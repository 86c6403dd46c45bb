"""The other side of the bench: llama.cpp itself, in this process or split over its RPC servers.

`serve PORT THREADS` is one RPC server. `measure MODEL THREADS [PORT …]` loads the model (over the servers at these
ports, or in this process without any), then answers one JSON line for each JSON line on stdin:
`{"streams": 1, "steps": 60, "prompt": [ids]}` → `{"ms_per_token", "tokens_per_s", "prefill_ms", "token_ids"}`.

Run with a llama-cpp-python built with `-DGGML_RPC=ON` on PYTHONPATH (`scripts/setup.py --variant rpc`).
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

llama: Any = llama_cpp
CONTEXT = 4096
CHUNK = 512
CPU_DEVICE = 0
"""GGML_BACKEND_DEVICE_TYPE_CPU in ggml-backend.h."""


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


def remote_devices(ports: list[int]) -> Any:
    """The null-terminated list of the servers' devices."""
    add = library("ggml-rpc").ggml_backend_rpc_add_server
    add.argtypes, add.restype = [ctypes.c_char_p], ctypes.c_void_p
    get = library("ggml-base").ggml_backend_reg_dev_get
    get.argtypes, get.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p
    found = [get(add(f"127.0.0.1:{port}".encode()), 0) for port in ports]
    return (ctypes.c_void_p * (len(found) + 1))(*found, None)


class Rival:
    """The whole model behind plain `llama_decode`."""

    def __init__(self, model: str, threads: int, ports: list[int], streams: int) -> None:
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        if ports:
            self._devices = remote_devices(ports)
            params.devices = ctypes.cast(self._devices, dict(params._fields_)["devices"])
            params.n_gpu_layers = 999
        self._model = llama.llama_model_load_from_file(model.encode(), params)
        context = llama.llama_context_default_params()
        context.n_ctx, context.n_seq_max = CONTEXT * streams, streams
        context.n_batch = context.n_ubatch = context.n_outputs_max = CHUNK
        context.n_threads = context.n_threads_batch = threads
        context.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama.llama_init_from_model(self._model, context)
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(CHUNK, 0, 1)

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """Runs (token, position, sequence, wanted) rows in one batch; the greedy tokens of the wanted ones."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i], batch.n_seq_id[i] = token, position, wanted, 1
            batch.seq_id[i][0] = sequence
        if llama.llama_decode(self._context, batch):
            raise SystemExit("llama_decode failed")
        return [self._greedy(i) for i, row in enumerate(rows) if row[3]]

    def _greedy(self, row: int) -> int:
        logits = llama.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax())

    def measure(self, streams: int, steps: int, prompt: list[int]) -> dict[str, object]:
        """Prefills `prompt` in each stream, then decodes all streams in one batch per step."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        started = time.perf_counter()
        last = len(prompt) - 1
        tokens = [
            self._run([(token, i, stream, i == last) for i, token in enumerate(prompt)])[0] for stream in range(streams)
        ]
        prefill = time.perf_counter() - started
        first_stream = [tokens[0]]
        started = time.perf_counter()
        for step in range(steps):
            tokens = self._run([(token, len(prompt) + step, stream, True) for stream, token in enumerate(tokens)])
            first_stream.append(tokens[0])
        seconds = time.perf_counter() - started
        return {
            "ms_per_token": seconds / steps * 1e3,
            "tokens_per_s": streams * steps / seconds,
            "prefill_ms": prefill / streams * 1e3,
            "token_ids": first_stream,
        }


def main(arguments: list[str]) -> None:
    """`serve PORT THREADS` or `measure MODEL THREADS STREAMS [PORT …]`."""
    if arguments[0] == "serve":
        serve(int(arguments[1]), int(arguments[2]))
        return
    ports = [int(port) for port in arguments[4:]]
    rival = Rival(arguments[1], int(arguments[2]), ports, int(arguments[3]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(rival.measure(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
