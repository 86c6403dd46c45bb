"""Weights of a GGUF file as MLX computes with them.

MLX's affine format has groups of 32 weights w = scale · q + bias. It can say exactly what Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
Q4_K and Q5_K say (in K-quants each of the eight blocks of a super-block becomes a group). Other quantised types are
rounded anew to 8 bits; the loss is measured. Scales and biases are float32, for MLX computes in the widest of its
inputs' types and would widen them at every step. F16 and BF16 stay what they are.

Formats: llama.cpp `ggml/src/ggml-common.h`; MLX `mlx.core.quantize`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import Q4_K, dequantize

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import TensorInfo
from peerinfer.models.mlx_rules import GROUP, HALF_TYPES, mlx_bits

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Scales = Callable[[Bytes], tuple[Floats, Floats]]
"""From blocks, shape (blocks, bytes of a block), to scale and bias of each group in them, in order."""

SLICE_WEIGHTS: Final = 1 << 22
"""Converted at once: 16 MiB of float32, so that a large tensor does not need room for itself several times."""
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


@dataclass(slots=True)
class Loss:
    """What was lost by rounding anew, over all that was read."""

    error: float = 0.0
    """Sum of squares of what weights are off."""
    total: float = 0.0
    """Sum of squares of weights."""

    @property
    def relative(self) -> float:
        """Root of the mean square of the error, as a share of that of the weights."""
        return (self.error / self.total) ** 0.5 if self.total else 0.0


class WeightReader:
    """Reads tensors of one file, converts them, and keeps account of the loss."""

    def __init__(self, path: Path) -> None:
        self.loss = Loss()
        self._path = path
        self._file = path.open("rb", buffering=0)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def vector(self, tensor: TensorInfo) -> mx.array:
        """A norm's weights or a bias, as float32."""
        return mx.array(_floats(self._blocks(tensor, 0, 1), tensor.type).reshape(-1))

    def matrix(self, tensor: TensorInfo) -> Matrix:
        """The weights of a linear layer. Raises `UnsupportedModel` for a type that nobody can read."""
        columns, rows = tensor.shape[0], int(np.prod(tensor.shape[1:], dtype=np.int64))
        parts = list(self._parts(tensor, rows, columns))
        weight = mx.concatenate([part.weight for part in parts]) if len(parts) > 1 else parts[0].weight
        if not parts[0].bits:
            mx.eval(weight)
            return Matrix(weight)
        scales = mx.concatenate([part.scales for part in parts if part.scales is not None])
        biases = mx.concatenate([part.biases for part in parts if part.biases is not None])
        mx.eval(weight, scales, biases)
        return Matrix(weight, scales, biases, parts[0].bits)

    def _parts(self, tensor: TensorInfo, rows: int, columns: int) -> Iterator[Matrix]:
        step = max(1, SLICE_WEIGHTS // columns)
        for first in range(0, rows, step):
            blocks = self._blocks(tensor, first, min(step, rows - first), rows)
            if tensor.type in HALF_TYPES:
                yield _half(blocks, tensor.type, columns)
                continue
            weights = _floats(blocks, tensor.type).reshape(-1, columns)
            if tensor.type is GGMLQuantizationType.F32 or columns % GROUP:
                yield Matrix(mx.array(weights))
            else:
                yield self._grouped(blocks, weights, tensor.type)

    def _grouped(self, blocks: Bytes, weights: Floats, kind: GGMLQuantizationType) -> Matrix:
        rows, columns = weights.shape
        groups = weights.reshape(-1, GROUP)
        bits = mlx_bits(kind)
        told = _SCALES.get(kind)
        scale, bias = told(blocks) if told else _spread(groups, bits)
        safe = np.where(np.abs(scale) > SCALE_TINY, scale, np.float32(1))
        numbers = np.rint((groups - bias[:, None]) / safe[:, None])
        np.clip(numbers, 0, (1 << bits) - 1, out=numbers)
        off = groups - (numbers * scale[:, None] + bias[:, None])
        self.loss.error += float(np.vdot(off, off))
        self.loss.total += float(np.vdot(groups, groups))
        packed = _packed(numbers.astype(np.uint8).reshape(rows, columns), bits)
        shape = (rows, columns // GROUP)
        return Matrix(mx.array(packed), mx.array(scale.reshape(shape)), mx.array(bias.reshape(shape)), bits)

    def _blocks(self, tensor: TensorInfo, first: int, count: int, rows: int = 1) -> Bytes:
        """The blocks of `count` of the tensor's rows, shape (blocks, bytes of a block). Raises `CorruptModel`."""
        row_bytes = tensor.n_bytes // rows
        data = np.empty(row_bytes * count, np.uint8)
        self._file.seek(tensor.offset + first * row_bytes)
        if self._file.readinto(data.data) != data.nbytes:
            raise CorruptModel(f"{self._path.name} became shorter while it was read. Fetch it again.")
        return data.reshape(-1, GGML_QUANT_SIZES[tensor.type][1])


def _floats(blocks: Bytes, kind: GGMLQuantizationType) -> Floats:
    try:
        with np.errstate(all="ignore"):  # a damaged model may hold weights that are no numbers
            return dequantize(blocks, kind).astype(np.float32, copy=False)
    except NotImplementedError:
        raise UnsupportedModel(
            f"MLX stages cannot read weights of the type {kind.name}. Run this model with llama.cpp."
        ) from None


def _half(blocks: Bytes, kind: GGMLQuantizationType, columns: int) -> Matrix:
    if kind is GGMLQuantizationType.F16:
        return Matrix(mx.array(blocks.view(np.float16).reshape(-1, columns)))
    return Matrix(mx.array(blocks.view(np.uint16).reshape(-1, columns)).view(mx.bfloat16))


def _packed(numbers: Bytes, bits: int) -> npt.NDArray[np.uint32]:
    """Rows of numbers as streams of bits, the lowest first, in words of 32."""
    if bits == 8:
        return numbers.view("<u4")
    if bits == 4:
        return (numbers[:, ::2] | (numbers[:, 1::2] << 4)).view("<u4")
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
