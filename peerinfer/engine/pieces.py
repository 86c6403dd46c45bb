"""Detokenising without a call: the text of every token, and a decoder for tokens that split a character."""

from __future__ import annotations

import codecs

import numpy as np


class PieceTable:
    """The bytes of each token of a vocabulary."""

    def __init__(self, lengths: bytes, texts: bytes) -> None:
        """`lengths`: uint16 for each token; `texts`: all texts in order. Raises `ValueError` if they disagree."""
        sizes = np.frombuffer(lengths, np.uint16).astype(np.int64)
        self._ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        self._texts = texts
        if int(self._ends[-1]) != len(texts):
            raise ValueError("the table of token texts is incomplete")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def piece(self, token: int) -> bytes:
        """The bytes of `token`; empty for control tokens and ids outside the vocabulary."""
        if not 0 <= token < len(self):
            return b""
        return self._texts[int(self._ends[token]) : int(self._ends[token + 1])]


class TextDecoder:
    """Turns tokens into text as they come; half a character waits for its other half."""

    def __init__(self, table: PieceTable) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int, last: bool = False) -> str:
        """The text that `token` completes."""
        return self._decoder.decode(self._table.piece(token), last)

    def finish(self) -> str:
        """What is left of an unfinished character."""
        return self._decoder.decode(b"", True)
