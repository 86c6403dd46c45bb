"""The tokenizer's child process: vocabulary and chat template of one model, opened from a vocabulary-only file.

Calls: `OPEN` gives facts and the table of token texts, `ENCODE` turns text into ids, `CHAT` renders a
conversation and turns it into ids. Detokenising needs no call: see `pieces.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from peerinfer.engine.calls import CHAT, OPEN
from peerinfer.engine.llama_native import NativeLog, llama
from peerinfer.engine.template import ChatTemplate
from peerinfer.errors import BadRequest, EngineError, UnsupportedModel
from peerinfer.models.gguf import read_header
from peerinfer.packing import pack, unpack
from peerinfer.process.inside import Emit, Part

CALL_MAX_BYTES = 16 * 1024 * 1024
PIECE_MAX_BYTES = 1024
"""One token's text; the longest in use are below 300."""


class TokenizerService:
    """Answers the calls of one model's tokenizer host."""

    def __init__(self) -> None:
        self._log = NativeLog()
        self._vocabulary: Any = None
        self._template = ChatTemplate(None, {})
        self._bos = ""

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:  # noqa: ARG002
        """One call."""
        request = cast(Any, unpack(body, CALL_MAX_BYTES, maps=True, text_max_bytes=CALL_MAX_BYTES))
        if kind == OPEN:
            return self._open(Path(str(request)))
        if self._vocabulary is None:
            raise EngineError("The tokenizer has not been opened.")
        if kind == CHAT:
            text = self._template.render(cast("list[Mapping[str, str]]", request))
            ids = self._encode(text, special=not (self._bos and text.startswith(self._bos)))
        else:
            ids = self._encode(str(request), special=True)
        return [memoryview(ids.data).cast("B") if len(ids) else b""]

    def _open(self, path: Path) -> Sequence[Part]:
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.vocab_only = True
        model = llama.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise UnsupportedModel(f"llama.cpp cannot read this model's vocabulary.{self._log.last()}")
        vocabulary = llama.llama_model_get_vocab(model)
        self._vocabulary = vocabulary
        count = int(llama.llama_vocab_n_tokens(vocabulary))
        ends = [token for token in range(count) if llama.llama_vocab_is_eog(vocabulary, token)]
        bos, eos = int(llama.llama_vocab_bos(vocabulary)), int(llama.llama_vocab_eos(vocabulary))
        texts = {"bos_token": self._text(bos), "eos_token": self._text(eos)}
        self._bos = texts["bos_token"]
        source = read_header(path).metadata.get("tokenizer.chat_template")
        self._template = ChatTemplate(source if isinstance(source, str) else None, texts)
        pieces = [self._piece(token) for token in range(count)]
        lengths = np.array([len(piece) for piece in pieces], np.uint16).tobytes()
        return [pack({"tokens": count, "ends": ends, "lengths": lengths, "texts": b"".join(pieces)})]

    def _text(self, token: int) -> str:
        if token < 0:
            return ""
        return (llama.llama_vocab_get_text(self._vocabulary, token) or b"").decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(PIECE_MAX_BYTES)
        count = int(llama.llama_token_to_piece(self._vocabulary, token, buffer, PIECE_MAX_BYTES, 0, False))
        return buffer.raw[: max(0, count)]

    def _encode(self, text: str, special: bool) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        data = text.encode("utf-8", "surrogatepass")
        if b"\0" in data:
            raise BadRequest("A prompt must not contain NUL characters.")
        room = len(data) + 8
        ids = np.empty(room, np.int32)
        target = ctypes.cast(ids.ctypes.data, ctypes.POINTER(ctypes.c_int32))
        count = int(llama.llama_tokenize(self._vocabulary, data, len(data), target, room, special, True))
        if count < 0:
            raise EngineError("The tokenizer gave more tokens than bytes.")
        return ids[:count]


def open_service() -> TokenizerService:
    """The service of a fresh child."""
    return TokenizerService()
