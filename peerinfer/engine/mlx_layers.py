"""What our MLX stages have in place of the parts of `mlx_lm`'s blocks: linear layers, positions, the KV cache.

Blocks compute in float32, as llama.cpp does: stages of both engines then differ by rounding only, and no model's
hidden states overflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn

from peerinfer.engine.mlx_weights import Matrix
from peerinfer.models.mlx_rules import GROUP


class Linear(nn.Module):
    """y = x · Wᵀ + b with weights as they are stored. x: (…, columns) to y: (…, rows), float32."""

    def __init__(self, matrix: Matrix, bias: mx.array | None = None) -> None:
        super().__init__()
        self.matrix = matrix
        self.bias = bias

    def __call__(self, x: mx.array) -> mx.array:
        x = x.astype(mx.float32)
        matrix = self.matrix
        if matrix.scales is not None:
            y = mx.quantized_matmul(
                x, matrix.weight, matrix.scales, matrix.biases, transpose=True, group_size=GROUP, bits=matrix.bits
            )
        else:
            y = x @ matrix.weight.T
        return y if self.bias is None else y + self.bias


class Rope(nn.Module):
    """Rotary positions as llama.cpp turns them (`ggml_rope_ext`), for queries and keys alike."""

    def __init__(self, wavelengths: mx.array, *, neighbours: bool, magnitude: float, out: mx.Dtype) -> None:
        """`wavelengths`: tokens per radian of each pair, shape (pairs,). `neighbours`: pairs are 2i and 2i+1.

        `magnitude` is multiplied on what is turned; `out` is the type in which attention is computed.
        """
        super().__init__()
        self._wavelengths = wavelengths
        self._dimensions = 2 * wavelengths.size
        self._neighbours = neighbours
        self._magnitude = magnitude
        self._out = out

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        """x: (sequences, heads, tokens, head size); `offset`: the position of the first token of each sequence."""
        if self._magnitude != 1.0:
            turned, rest = x[..., : self._dimensions], x[..., self._dimensions :]
            x = mx.concatenate([turned * self._magnitude, rest], axis=-1)
        turned = mx.fast.rope(
            x,
            self._dimensions,
            traditional=self._neighbours,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self._wavelengths,
        )
        return turned.astype(self._out)


class Cache:
    """Keys and values of all slots in one layer, and the view of them that a block is given.

    Written in place: MLX reuses the memory of an array that nobody else holds. A sequence is taken back by writing
    over it: what lies behind a slot's length is masked where a longer sequence runs beside it. A masked value counts
    0 times, which of what is no number would be no number again, so such values must not stay: see `wipe`.
    """

    def __init__(self, slots: int, heads: int, context: int, size: int, kinds: tuple[mx.Dtype, mx.Dtype]) -> None:
        self.keys = mx.zeros((slots, heads, context, size), kinds[0])
        self.values = mx.zeros((slots, heads, context, size), kinds[1])
        self.offset: int | mx.array = 0
        self._slots: Sequence[int] = ()
        self._positions: Sequence[int] = ()
        self._from = 0

    def aim(self, slots: Sequence[int], positions: Sequence[int], offset: int | mx.array, first: int) -> None:
        """The next call is for these slots, one sequence each, at these positions; they look back to `first`."""
        self._slots, self._positions, self.offset, self._from = slots, positions, offset, first

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Called by the block. Takes (sequences, heads, tokens, size); returns all that these sequences look at."""
        count = keys.shape[2]
        keys, values = keys.astype(self.keys.dtype), values.astype(self.values.dtype)
        for row, (slot, position) in enumerate(zip(self._slots, self._positions, strict=True)):
            self.keys[slot : slot + 1, :, position : position + count] = keys[row : row + 1]
            self.values[slot : slot + 1, :, position : position + count] = values[row : row + 1]
        end = max(self._positions) + count
        return self._seen(self.keys, end), self._seen(self.values, end)

    def keys_of(self, slot: int, count: int) -> mx.array:
        """The first keys of a slot, shape (tokens, heads times size)."""
        return self.keys[slot, :, :count].swapaxes(0, 1).flatten(1)

    def wipe(self, count: int) -> None:
        """Writes zeros over what the last call wrote, `count` tokens in each of its slots."""
        for slot, position in zip(self._slots, self._positions, strict=True):
            self.keys[slot : slot + 1, :, position : position + count] = 0
            self.values[slot : slot + 1, :, position : position + count] = 0

    def _seen(self, held: mx.array, end: int) -> mx.array:
        low, high = self._slots[0], self._slots[-1] + 1
        if high - low == len(self._slots):  # neighbours, which is the rule: no copy
            return held[low:high, :, self._from : end]
        return held[:, :, self._from : end][mx.array(list(self._slots))]


def evaluate(*arrays: object) -> None:
    """Computes arrays, in lists and tuples too: `mx.eval`, whose arguments have no types."""
    module: Any = mx
    module.eval(*arrays)


def to_numpy(array: mx.array) -> npt.NDArray[np.float32]:
    """The numbers of an array, as float32."""
    return np.asarray(array.astype(mx.float32), dtype=np.float32)
