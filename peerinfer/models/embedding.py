"""The embedding look-up of a first stage: reads only the rows it needs, straight from the model file.

Bit-equal to the look-up of llama.cpp's graph. Rows are read, not mapped: a mapped file that is cut short under us kills
the process, and every page once touched would count as memory of this process. A row costs about 3 µs.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from peerinfer.errors import BadRequest, CorruptModel, ModelError, UnsupportedModel
from peerinfer.models.architecture_rules import EMBEDDING_TENSOR
from peerinfer.models.architectures import architecture
from peerinfer.models.gguf import read_header


class EmbeddingTable:
    """`token_embd.weight` of the model file at `path`. Used by one thread; holds the file open until `close`."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        tensor = header.by_name.get(EMBEDDING_TENSOR)
        if tensor is None or len(tensor.shape) != 2:
            raise CorruptModel(f"{header.name} has no embedding table. Load the model again.")
        self.n_embd, self.n_vocab = tensor.shape
        self._name = header.name
        self._type = tensor.type
        self._offset = tensor.offset
        self._row_bytes = tensor.n_bytes // self.n_vocab
        self._factor = np.float32(architecture(header.text("general.architecture")).embedding_factor(header))
        try:
            dequantize(np.zeros((1, self._row_bytes), np.uint8), self._type)
        except NotImplementedError:
            raise UnsupportedModel(
                f"{self._name} has its embeddings as {self._type.name}, which a first stage cannot read. "
                "Run it whole on one node."
            ) from None
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise ModelError(f"{self._name} cannot be opened ({error.strerror}). Check its permissions.") from None

    def rows(self, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The embeddings of `token_ids`, shape (tokens, n_embd).

        Raises `BadRequest` for an id that the vocabulary does not have, `CorruptModel` if the file was cut short.
        """
        if token_ids.size and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < self.n_vocab:
            raise BadRequest(f"A token id is outside the vocabulary of {self.n_vocab}. Use this model's own tokenizer.")
        packed = np.empty((token_ids.size, self._row_bytes), np.uint8)
        if not token_ids.size:
            return np.empty((0, self.n_embd), np.float32)
        for row, token_id in zip(packed, token_ids.tolist(), strict=True):
            self._file.seek(self._offset + token_id * self._row_bytes)
            if self._file.readinto(row.data) != self._row_bytes:
                raise CorruptModel(f"{self._name} became shorter while it was in use. Fetch it again.")
        with np.errstate(all="ignore"):  # a damaged model may hold weights that are no numbers; llama.cpp says nothing
            rows = dequantize(packed, self._type)
        return rows if self._factor == 1 else rows * self._factor

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> EmbeddingTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
