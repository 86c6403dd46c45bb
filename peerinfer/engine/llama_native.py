"""The native parts under `llama.py`: llama.cpp's log, the graph callback that reads hidden states, the batch."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from peerinfer.engine.base import Hidden, TokenIds
from peerinfer.engine.rows import Piece

llama: Any = llama_cpp
"""The ctypes module; it carries no types."""

_installed: list[Any] = []
"""The log callback that llama.cpp holds: it must outlive whoever set it, for llama.cpp will call it again."""
LOG_LEVEL_ERROR = 4
LOG_LEVEL_CONTINUED = 5
"""`GGML_LOG_LEVEL_ERROR` and `GGML_LOG_LEVEL_CONT` in ggml.h."""


def _base_library() -> Any:
    """libggml-base, which llama_cpp has loaded already."""
    names = {"darwin": "libggml-base.dylib", "win32": "ggml-base.dll"}
    folder = Path(llama_cpp.__file__).parent / "lib"
    library: Any = ctypes.CDLL(str(folder / names.get(sys.platform, "libggml-base.so")))
    library.ggml_get_name.argtypes = [ctypes.c_void_p]
    library.ggml_get_name.restype = ctypes.c_char_p
    library.ggml_nbytes.argtypes = [ctypes.c_void_p]
    library.ggml_nbytes.restype = ctypes.c_size_t
    library.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.ggml_backend_tensor_get.restype = None
    library.ggml_backend_tensor_set.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.ggml_backend_tensor_set.restype = None
    return library


class NativeLog:
    """Keeps llama.cpp's error lines for our own sentences and drops its chatter."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        is_error = False

        def receive(level: int, text: bytes, _: object) -> None:
            nonlocal is_error
            is_more = level == LOG_LEVEL_CONTINUED
            is_error = level == LOG_LEVEL_ERROR or (is_more and is_error)
            if is_error:
                words = text.decode("utf-8", "replace").strip()
                self.lines = [*self.lines[:-1], f"{self.lines[-1]} {words}"] if is_more else [*self.lines[-4:], words]

        self._callback: Any = llama.llama_log_callback(receive)
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))
        _installed[:] = [self._callback]

    def last(self) -> str:
        """The last error line, as the end of a sentence."""
        return f" llama.cpp says: {self.lines[-1]}" if self.lines else ""


class HiddenTap:
    """The graph callback: where hidden states enter and leave a stage besides by its inputs and its outputs.

    On a trunk it reads the tensor `l_out-<last>` into a waiting array and stops the graph there. Where the graph of an
    architecture changes any input first, it writes the input anew into the tensor that comes out of that.
    """

    def __init__(self, layers: int, input_tensor: str = "") -> None:
        """`layers` of a trunk, 0 for a last stage; `input_tensor` is empty where inputs are taken as they are."""
        self._library = _base_library()
        name_of: Callable[[int], bytes] = self._library.ggml_get_name
        target = f"l_out-{layers - 1}".encode() if layers else None
        entrance = input_tensor.encode() if input_tensor else None

        def callback(tensor: int, ask: bool, _: object) -> bool:
            name = name_of(tensor)
            if ask:
                return name in (target, entrance)
            if name == entrance:
                self._write(tensor)
                return True
            self._read(tensor)
            return False

        self.callback: Any = llama.ggml_backend_sched_eval_callback(callback)
        self.rewrites_input = bool(entrance)
        self._sink: Hidden = np.empty((0, 0), np.float32)
        self._source: Hidden = np.empty((0, 0), np.float32)
        self.rows = 0
        self.rows_in = 0

    def aim(self, sink: Hidden, source: Hidden) -> None:
        """The next tensors are written into `sink` (tokens, n_embd) and taken from `source`, one after the other."""
        self._sink = sink
        self._source = source
        self.rows = self.rows_in = 0

    def passed(self, count: int, trunk: bool) -> bool:
        """Whether all of `count` tokens went in and, on a trunk, came out."""
        return (not trunk or self.rows == count) and (not self.rewrites_input or self.rows_in == count)

    def _read(self, tensor: int) -> None:
        size = int(self._library.ggml_nbytes(tensor))
        width = self._sink.shape[1] * 4
        if size % width or self.rows + size // width > len(self._sink):
            self.rows = -1_000_000  # never equals the rows asked for, so the step fails with a sentence
            return
        target = self._sink.ctypes.data + self.rows * width
        self._library.ggml_backend_tensor_get(tensor, target, 0, size)
        self.rows += size // width

    def _write(self, tensor: int) -> None:
        size = int(self._library.ggml_nbytes(tensor))
        width = self._source.shape[1] * 4
        if size % width or self.rows_in + size // width > len(self._source):
            self.rows_in = -1_000_000
            return
        source = self._source.ctypes.data + self.rows_in * width
        self._library.ggml_backend_tensor_set(tensor, source, 0, size)
        self.rows_in += size // width


class LayerTap(HiddenTap):
    """Reads the keys of every layer and what is behind it, and lets the graph go on.

    Several tensors of a layer are called `Kcur-N`; the last of them is what goes into the cache.
    """

    def __init__(self, layers: int, input_tensor: str, tokens: int, width: int, key_width: int) -> None:
        super().__init__(0, input_tensor)
        self.states: Hidden = np.zeros((layers, tokens, width), np.float32)
        self.keys: Hidden = np.zeros((layers, tokens, key_width), np.float32)
        sinks = {f"l_out-{layer}".encode(): self.states[layer] for layer in range(layers)}
        sinks |= {f"Kcur-{layer}".encode(): self.keys[layer] for layer in range(layers)}
        self.unread = set(sinks)
        """Tensors that no graph has had yet."""
        enter = self.callback
        name_of: Callable[[int], bytes] = self._library.ggml_get_name

        def callback(tensor: int, ask: bool, data: object) -> bool:
            name = name_of(tensor)
            sink = sinks.get(name)
            if sink is None:
                return bool(enter(tensor, ask, data))
            if not ask:
                self._sink, self.rows = sink, 0
                self._read(tensor)
                if self.rows == len(sink):
                    self.unread.discard(name)
            return True

        self.callback = llama.ggml_backend_sched_eval_callback(callback)


class Batch:
    """A `llama_batch` whose arrays are numpy's, so that filling it takes no loop and its input no copy."""

    def __init__(self, chunk: int) -> None:
        self._positions = np.zeros(chunk, np.int32)
        self._counts = np.ones(chunk, np.int32)
        self._sequences = np.zeros(chunk, np.int32)
        self._outputs = np.zeros(chunk, np.int8)
        self._zeros = np.zeros(chunk, np.int32)
        start = self._sequences.ctypes.data
        self._sequence_pointers = (ctypes.c_void_p * chunk)(*(start + 4 * i for i in range(chunk)))
        self.struct: Any = llama.llama_batch()
        self._point("pos", self._positions.ctypes.data)
        self._point("n_seq_id", self._counts.ctypes.data)
        self._point("seq_id", ctypes.addressof(self._sequence_pointers))
        self._point("logits", self._outputs.ctypes.data)

    def fill(self, call: Sequence[Piece], all_outputs: bool) -> int:
        """Positions, sequences and wanted outputs of `call`; returns its number of tokens."""
        at = 0
        for piece in call:
            end = at + piece.count
            self._positions[at:end] = np.arange(piece.position, piece.position + piece.count)
            self._sequences[at:end] = piece.slot
            self._outputs[at:end] = all_outputs
            self._outputs[end - 1] = all_outputs or piece.sample
            at = end
        self.struct.n_tokens = at
        return at

    def feed(
        self, call: Sequence[Piece], tokens: TokenIds | None, hidden: Hidden | None, *, by_token: bool = False
    ) -> npt.NDArray[Any]:
        """Points the batch at its input and returns it: it must live until the call is over. Copies only to gather.

        `by_token` gives the graph token 0 throughout, and leaves hidden states to `HiddenTap`.
        """
        source = tokens if tokens is not None else hidden
        if source is None:
            raise ValueError("a step without input")
        if len(call) == 1:
            part = source[call[0].source : call[0].source + call[0].count]
        else:
            part = np.concatenate([source[piece.source : piece.source + piece.count] for piece in call])
        address = part.ctypes.data
        self._point("token", self._zeros.ctypes.data if by_token else address if tokens is not None else None)
        self._point("embd", None if by_token or tokens is not None else address)
        return part

    def _point(self, field: str, address: int | None) -> None:
        kind: Any = dict(self.struct._fields_)[field]
        setattr(self.struct, field, ctypes.cast(ctypes.c_void_p(address), kind))
