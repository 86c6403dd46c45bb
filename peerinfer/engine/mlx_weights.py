"""Weights of a GGUF file as MLX computes with them.

MLX's affine format has groups of 32 weights w = scale · q + bias. It can say exactly what Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
Q4_K and Q5_K say (in K-quants each of the eight blocks of a super-block becomes a group). Other quantised types are
rounded anew to 8 bits; the loss is measured. Scales and biases are float32, for MLX computes in the widest of its
inputs' types and would widen them at every step. F16 and BF16 stay what they are.

Formats: llama.cpp `ggml/src/ggml-common.h`; MLX `mlx.core.quantize`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import Q4_K, dequantize

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import TensorInfo
from peerinfer.models.mlx_rules import GROUP, HALF_TYPES, mlx_bits
from peerinfer.models.rounding import Loss

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Scales = Callable[[Bytes], tuple[Floats, Floats]]
"""From blocks, shape (blocks, bytes of a block), to scale and bias of each group in them, in order."""

SLICE_WEIGHTS: Final = 1 << 22
"""Converted at once: 16 MiB of float32, so that a large tensor does not need room for itself several times."""
THREADS_MAX: Final = 8
"""That convert at once; each works on a slice."""
SCALE_TINY: Final = 1e-30
"""A smaller scale stands for zero: its group's weights are all the same."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Weights of a linear layer, shape (rows, columns)."""

    weight: mx.array
    """Packed numbers of `bits` bits, or the weights themselves if `bits` is 0."""
    scales: mx.array | None = None
    biases: mx.array | None = None
    bits: int = 0


class WeightReader:
    """Reads tensors of one file, converts them on several threads, and keeps account of the loss."""

    def __init__(self, path: Path) -> None:
        self.loss = Loss()
        """Of matrices that were rounded anew; those that are said exactly do not count."""
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._pool = ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), "weights")

    def close(self) -> None:
        """Closes the file."""
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def vector(self, tensor: TensorInfo) -> mx.array:
        """A norm's weights or a bias, as float32."""
        return mx.array(_floats(self._blocks(tensor, 0, 1, 1), tensor.type).reshape(-1))

    def matrix(self, tensor: TensorInfo) -> Matrix:
        """The weights of a linear layer. Raises `UnsupportedModel` for a type that nobody can read."""
        columns, rows = tensor.shape[0], int(np.prod(tensor.shape[1:], dtype=np.int64))
        step = max(1, SLICE_WEIGHTS // columns)
        ranges = [(first, min(step, rows - first)) for first in range(0, rows, step)]
        waves = [ranges[at : at + THREADS_MAX] for at in range(0, len(ranges), THREADS_MAX)]
        slices: list[Slice] = []
        for wave in waves:  # what was read and not yet converted stays bounded
            blocks = [self._blocks(tensor, *each, rows) for each in wave]
            slices += self._pool.map(partial(_converted, kind=tensor.type, columns=columns), blocks)
        for each in slices:
            self.loss.add(each.loss)
        return _joined(slices, tensor.type)

    def _blocks(self, tensor: TensorInfo, first: int, count: int, rows: int) -> Bytes:
        """The blocks of `count` of the tensor's rows, shape (blocks, bytes of a block). Raises `CorruptModel`."""
        row_bytes = tensor.n_bytes // rows
        data = np.empty(row_bytes * count, np.uint8)
        self._file.seek(tensor.offset + first * row_bytes)
        if self._file.readinto(data.data) != data.nbytes:
            raise CorruptModel(f"{self._path.name} became shorter while it was read. Fetch it again.")
        return data.reshape(-1, GGML_QUANT_SIZES[tensor.type][1])


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a matrix, converted."""

    weight: npt.NDArray[Any]
    """Packed numbers of `bits` bits, or weights if that is 0."""
    scale: Floats | None = None
    bias: Floats | None = None
    bits: int = 0
    loss: Loss = field(default_factory=Loss)


def _converted(blocks: Bytes, kind: GGMLQuantizationType, columns: int) -> Slice:
    if kind in HALF_TYPES:
        return Slice(blocks.view(np.float16 if kind is GGMLQuantizationType.F16 else np.uint16).reshape(-1, columns))
    if kind is GGMLQuantizationType.F32 or columns % GROUP:
        return Slice(_floats(blocks, kind).reshape(-1, columns))
    bits = mlx_bits(kind)
    told, repacked = _SCALES.get(kind), _REPACKED.get(kind)
    if told and repacked:
        scale, bias = told(blocks)
        words = np.ascontiguousarray(repacked(blocks)).reshape(-1, columns * bits // 8).view("<u4")
        shape = (len(words), columns // GROUP)
        return Slice(words, scale.reshape(shape), bias.reshape(shape), bits)
    groups = _floats(blocks, kind).reshape(-1, GROUP)
    scale, bias = told(blocks) if told else _spread(groups, bits)
    return _rounded(groups, scale, bias, bits, columns)


def _rounded(groups: Floats, scale: Floats, bias: Floats, bits: int, columns: int) -> Slice:
    """Each weight as the nearest number that its group can say."""
    safe = np.where(np.abs(scale) > SCALE_TINY, scale, np.float32(1))
    numbers = np.rint((groups - bias[:, None]) / safe[:, None])
    np.clip(numbers, 0, (1 << bits) - 1, out=numbers)
    off = groups - (numbers * scale[:, None] + bias[:, None])
    packed = _packed(numbers.astype(np.uint8).reshape(-1, columns), bits)
    shape = (len(packed), columns // GROUP)
    loss = Loss(float(np.vdot(off, off)), float(np.vdot(groups, groups)))
    return Slice(packed, scale.reshape(shape), bias.reshape(shape), bits, loss)


def _joined(slices: Sequence[Slice], kind: GGMLQuantizationType) -> Matrix:
    weight = mx.array(np.concatenate([each.weight for each in slices]))
    if kind is GGMLQuantizationType.BF16:
        weight = weight.view(mx.bfloat16)
    scales = [each.scale for each in slices if each.scale is not None]
    biases = [each.bias for each in slices if each.bias is not None]
    if not scales:
        return Matrix(weight)
    return Matrix(weight, mx.array(np.concatenate(scales)), mx.array(np.concatenate(biases)), slices[0].bits)


def _floats(blocks: Bytes, kind: GGMLQuantizationType) -> Floats:
    try:
        with np.errstate(all="ignore"):  # a damaged model may hold weights that are no numbers
            return dequantize(blocks, kind).astype(np.float32, copy=False)
    except NotImplementedError:
        raise UnsupportedModel(
            f"MLX stages cannot read weights of the type {kind.name}. Run this model with llama.cpp."
        ) from None


def _packed(numbers: Bytes, bits: int) -> npt.NDArray[np.uint32]:
    """Rows of numbers as streams of bits, the lowest first, in words of 32."""
    if bits == 8:
        return numbers.view("<u4")
    stream = (numbers[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(stream.reshape(len(numbers), -1), axis=1, bitorder="little").view("<u4")


def _spread(groups: Floats, bits: int) -> tuple[Floats, Floats]:
    """Scale and bias that reach from the smallest to the greatest weight of each group."""
    low, high = groups.min(axis=1), groups.max(axis=1)
    return (high - low) / np.float32((1 << bits) - 1), low


def _half_at(blocks: Bytes, offset: int) -> Floats:
    return blocks[:, offset : offset + 2].copy().view(np.float16).astype(np.float32)[:, 0]


def _symmetric(zero: int) -> Scales:
    """Blocks that begin with a scale; the number `zero` stands for 0."""

    def scales(blocks: Bytes) -> tuple[Floats, Floats]:
        scale = _half_at(blocks, 0)
        return scale, scale * np.float32(-zero)

    return scales


def _affine(blocks: Bytes) -> tuple[Floats, Floats]:
    """Blocks that begin with a scale and a bias."""
    return _half_at(blocks, 0), _half_at(blocks, 2)


def _super(blocks: Bytes) -> tuple[Floats, Floats]:
    """Super-blocks of eight groups: two factors, then six bits of scale and six of bias for each group."""
    scale, least = Q4_K.get_scale_min(np.ascontiguousarray(blocks[:, 4:16]))
    scale = _half_at(blocks, 0)[:, None] * scale.astype(np.float32)
    bias = -_half_at(blocks, 2)[:, None] * least.astype(np.float32)
    return scale.reshape(-1), bias.reshape(-1)


_SCALES: Final[dict[GGMLQuantizationType, Scales]] = {
    GGMLQuantizationType.Q4_0: _symmetric(8),
    GGMLQuantizationType.Q5_0: _symmetric(16),
    GGMLQuantizationType.Q8_0: _symmetric(128),
    GGMLQuantizationType.Q4_1: _affine,
    GGMLQuantizationType.Q5_1: _affine,
    GGMLQuantizationType.Q4_K: _super,
    GGMLQuantizationType.Q5_K: _super,
}
"""Types whose groups MLX can say exactly."""


_FOUR: Final = np.uint8(4)
_LOW: Final = np.uint8(0x0F)
_SIGN: Final = np.uint8(0x80)


def _pairs(numbers: Bytes) -> Bytes:
    """Numbers of four bits, two to a byte, neighbours together, the first one low."""
    return np.bitwise_or(numbers[..., ::2], np.left_shift(numbers[..., 1::2], _FOUR), dtype=np.uint8)


def _repacked_halves(qs: Bytes) -> Bytes:
    """From bytes whose low halves are the first numbers of a run and whose high halves are those behind them."""
    low, high = np.bitwise_and(qs, _LOW, dtype=np.uint8), np.right_shift(qs, _FOUR, dtype=np.uint8)
    return np.concatenate([_pairs(low), _pairs(high)], axis=-1)


_REPACKED: Final[dict[GGMLQuantizationType, Callable[[Bytes], Bytes]]] = {
    GGMLQuantizationType.Q4_0: lambda blocks: _repacked_halves(blocks[:, 2:]),
    GGMLQuantizationType.Q4_1: lambda blocks: _repacked_halves(blocks[:, 4:]),
    GGMLQuantizationType.Q4_K: lambda blocks: _repacked_halves(blocks[:, 16:].reshape(-1, 4, 32)),
    GGMLQuantizationType.Q8_0: lambda blocks: np.bitwise_xor(blocks[:, 2:], _SIGN, dtype=np.uint8),
}
"""Types whose numbers need to be put into another order only: a tenth of the time."""
