"""Numbers as MLX stores them, turned into the blocks of a GGUF file, with account of what is lost. Pure.

MLX's affine format has groups of 32, 64 or 128 weights w = scale · q + bias; the q of a row are one stream of bits, the
lowest first. Q4_1 and Q5_1 say the same in blocks of 32, with scale and bias as float16: exact, unless a scale has more
digits than that. There is no such type for 6 and 8 bits: those weights are rounded anew to Q8_0.

Formats: MLX `mlx.core.quantize`; llama.cpp `ggml/src/ggml-common.h`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType

from peerinfer.models.mlx_import.config import unsupported
from peerinfer.models.rounding import Loss

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BLOCK: Final = 32
"""Weights of a block of every type that is written here."""
TYPE_OF_BITS: Final = {
    **dict.fromkeys((2, 3, 4), GGMLQuantizationType.Q4_1),
    5: GGMLQuantizationType.Q5_1,
    **dict.fromkeys((6, 8), GGMLQuantizationType.Q8_0),
}
"""The type that holds MLX's weights of so many bits."""
TYPE_OF_DTYPE: Final = {
    "F32": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
"""The type for weights that are not quantised."""


def floats(raw: Bytes, dtype: str) -> Floats:
    """Numbers of the type `F32`, `F16` or `BF16`, little-endian, as float32; shape (numbers,)."""
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view("<f2" if dtype == "F16" else "<f4").astype(np.float32)


def numbers(words: Bytes, bits: int) -> Bytes:
    """The q of packed rows: shape (rows, bytes) to (rows, bytes · 8 / bits)."""
    if bits == 8:
        return words
    out = np.empty((len(words), words.shape[1] // bits, 8), np.uint8)
    runs = np.zeros((*out.shape[:2], 8), np.uint8)  # eight numbers fill as many bytes as each has bits
    runs[:, :, :bits] = words.reshape(len(words), -1, bits)
    wide = runs.view("<u8")[:, :, 0]
    for at in range(8):
        out[:, :, at] = (wide >> np.uint64(bits * at)) & np.uint64((1 << bits) - 1)
    return out.reshape(len(words), -1)


def quantised_blocks(q: Bytes, scale: Floats, bias: Floats, bits: int) -> tuple[Bytes, Loss]:
    """Blocks of the type of so many bits: shape (rows, bytes of a row).

    `q`: shape (rows, columns). `scale`, `bias`: shape (rows, groups). Raises `UnsupportedModel` for scales that float16
    cannot hold.
    """
    repeats = q.shape[1] // scale.shape[1] // BLOCK
    scale, bias = (np.repeat(each, repeats, axis=1).reshape(-1) for each in (scale, bias))
    blocks = q.reshape(-1, BLOCK)
    if bits in (6, 8):
        packed, loss = rounded_blocks(blocks * scale[:, None] + bias[:, None])
    else:
        packed, loss = _affine_blocks(blocks, scale, bias, is_wide=bits == 5)
    return packed.reshape(len(q), -1), loss


def _affine_blocks(q: Bytes, scale: Floats, bias: Floats, *, is_wide: bool) -> tuple[Bytes, Loss]:
    """Q4_1 or, if `is_wide`, Q5_1: scale, bias, the fifth bits, then the first 16 numbers beside the last 16."""
    halves = _half(scale), _half(bias)
    parts = [half[:, None].view(np.uint8) for half in halves]
    if is_wide:
        parts.append(np.packbits(q >> 4, axis=1, bitorder="little"))
    low = q & np.uint8(15)
    parts.append(low[:, :16] | (low[:, 16:] << np.uint8(4)))
    wide = q.astype(np.float32)
    sums = wide.sum(axis=1, dtype=np.float64), np.einsum("ij,ij->i", wide, wide).astype(np.float64)
    lost: list[Floats] = [exact - half.astype(np.float32) for exact, half in zip((scale, bias), halves, strict=True)]
    error = _squares(lost[0], lost[1], *sums) if any(each.any() for each in lost) else 0.0
    return np.concatenate(parts, axis=1), Loss(error, _squares(scale, bias, *sums))


def _squares(scale: Floats, bias: Floats, sums: npt.NDArray[Any], squares: npt.NDArray[Any]) -> float:
    """The sum of (scale · q + bias)² over blocks, from the sums and sums of squares of their q."""
    wide_scale, wide_bias = scale.astype(np.float64), bias.astype(np.float64)
    each = wide_scale**2 * squares + 2 * wide_scale * wide_bias * sums + wide_bias**2 * BLOCK
    return float(each.sum())


def rounded_blocks(weights: Floats) -> tuple[Bytes, Loss]:
    """Q8_0 blocks of weights, shape (blocks, 32): a scale, then 32 numbers from -127 to 127."""
    scale = _half(np.abs(weights).max(axis=1) / np.float32(127))
    step = scale.astype(np.float32)[:, None]
    q = np.rint(np.divide(weights, step, out=np.zeros_like(weights), where=step > 0))
    np.clip(q, -127, 127, out=q)
    off = weights - q * step
    packed = np.concatenate([scale[:, None].view(np.uint8), q.astype(np.int8).view(np.uint8)], axis=1)
    return packed, Loss(float(np.vdot(off, off)), float(np.vdot(weights, weights)))


def _half(values: Floats) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise unsupported("some of its scales are no numbers, or too large for 16 bits")
    return np.ascontiguousarray(half)


def permuted(rows: npt.NDArray[Any], head_size: int) -> npt.NDArray[Any]:
    """Rows of Q or K of whole heads, in the order of GGUF files of the architecture llama.

    RoPE turns numbers i and i + half of a head together in MLX, and 2i and 2i + 1 there. Shape (rows, …) both ways.
    """
    halves = rows.reshape(-1, 2, head_size // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
