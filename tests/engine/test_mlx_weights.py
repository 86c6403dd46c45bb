"""Weights of GGUF files as MLX has them: the same numbers where its format can say them, a measured loss elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.gguf import TensorInfo
from peerinfer.models.mlx_rules import GROUP, mlx_bytes
from tests.engine.engines import HAS_MLX

if HAS_MLX:
    import mlx.core as mx

    from peerinfer.engine import mlx_weights
    from peerinfer.engine.mlx_layers import Linear, to_numpy
    from peerinfer.engine.mlx_weights import Matrix, WeightReader
else:
    pytest.skip("MLX is not installed here", allow_module_level=True)

T = GGMLQuantizationType
EXACT = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K]
ROUNDED = [T.Q6_K, T.Q3_K, T.Q2_K, T.IQ4_NL, T.IQ4_XS]
ROWS, COLUMNS = 6, 512
HALVES = {T.Q4_K: 2, T.Q5_K: 2, T.Q2_K: 2}
"""Numbers of 16 bits with which a super-block begins; in other K-quants one stands at its end."""


def blocks_of(kind: GGMLQuantizationType, rows: int = ROWS) -> np.ndarray:
    """Some weights of a type, shape (rows, bytes of a row): quantised, or for K-quants any bits with sound factors."""
    random = np.random.default_rng(int(kind))
    if kind in (T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0):
        return (
            quantize(random.standard_normal((rows, COLUMNS)).astype(np.float32), kind).reshape(rows, -1).view(np.uint8)
        )
    items, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (rows * COLUMNS // items, size)).astype(np.uint8)
    count = HALVES.get(kind, 1)
    factors = random.uniform(0.001, 0.01, (len(blocks), count)).astype(np.float16).view(np.uint8)
    if kind in (T.Q6_K, T.Q3_K):
        blocks[:, -2:] = factors
    elif kind is T.Q2_K:
        blocks[:, -4:] = factors
    else:
        blocks[:, : 2 * count] = factors
    return blocks.reshape(rows, -1)


def read(folder: Path, kind: GGMLQuantizationType, data: np.ndarray, cut: int = 0) -> tuple[Matrix, float]:
    """The matrix as the reader makes it, from a file with something before it; and the loss."""
    path = folder / "weights.bin"
    path.write_bytes(b"before" + data.tobytes()[: data.nbytes - cut])
    reader = WeightReader(path)
    try:
        info = TensorInfo("w", (COLUMNS, len(data)), kind, 6, data.nbytes)
        matrix = reader.matrix(info)
        assert mlx_bytes(info) == held_bytes(matrix)
        return matrix, reader.loss.relative
    finally:
        reader.close()


def held_bytes(matrix: Matrix) -> int:
    return sum(each.nbytes for each in (matrix.weight, matrix.scales, matrix.biases) if each is not None)


def floats(matrix: Matrix) -> np.ndarray:
    if matrix.scales is None:
        return to_numpy(matrix.weight)
    made = mx.dequantize(matrix.weight, matrix.scales, matrix.biases, group_size=GROUP, bits=matrix.bits)
    return to_numpy(made)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("slice_weights", [1 << 22, 2 * COLUMNS])
def test_what_mlx_can_say_is_said_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: GGMLQuantizationType, slice_weights: int
) -> None:
    monkeypatch.setattr(mlx_weights, "SLICE_WEIGHTS", slice_weights)
    data = blocks_of(kind)
    matrix, loss = read(tmp_path, kind, data)
    wanted = dequantize(data, kind)
    assert np.abs(floats(matrix) - wanted).max() <= 1e-6 * np.abs(wanted).max()
    assert loss < 1e-6


@pytest.mark.parametrize("kind", ROUNDED)
def test_what_it_cannot_say_is_rounded_to_8_bits_and_the_loss_is_told(
    tmp_path: Path, kind: GGMLQuantizationType
) -> None:
    data = blocks_of(kind)
    matrix, loss = read(tmp_path, kind, data)
    wanted = dequantize(data, kind)
    real = np.linalg.norm(floats(matrix) - wanted) / np.linalg.norm(wanted)
    assert matrix.bits == 8
    assert 0 < real < 0.005
    assert loss == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("kind", [T.F32, T.F16, T.BF16])
def test_weights_that_are_not_quantised_stay_what_they_are(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    data = blocks_of(kind)
    matrix, loss = read(tmp_path, kind, data)
    assert (floats(matrix) == dequantize(data, kind)).all()
    assert (matrix.bits, loss) == (0, 0.0)


@pytest.mark.parametrize("kind", [T.Q4_0, T.Q5_K, T.Q6_K, T.F16, T.BF16, T.F32])
def test_a_linear_layer_multiplies_with_them(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    matrix, _ = read(tmp_path, kind, blocks_of(kind))
    bias = mx.array(np.arange(ROWS, dtype=np.float32))
    x = np.random.default_rng(1).standard_normal((3, COLUMNS)).astype(np.float32)
    wanted = x @ floats(matrix).T + np.arange(ROWS)
    made = Linear(matrix, bias)(mx.array(x))
    assert made.dtype == mx.float32
    assert np.allclose(to_numpy(made), wanted, atol=1e-4 * np.abs(wanted).max())


def test_groups_of_one_value_and_of_zeros_are_kept(tmp_path: Path) -> None:
    data = blocks_of(T.Q6_K)
    data[:] = 0
    matrix, loss = read(tmp_path, T.Q6_K, data)
    assert not floats(matrix).any()
    assert loss == 0.0


def test_a_file_that_became_shorter_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="became shorter"):
        read(tmp_path, T.Q4_0, blocks_of(T.Q4_0), cut=1)


def test_a_type_that_nobody_can_read_is_refused(tmp_path: Path) -> None:
    data = np.zeros((ROWS, COLUMNS * 4), np.uint8)
    path = tmp_path / "weights.bin"
    path.write_bytes(data.tobytes())
    reader = WeightReader(path)
    with pytest.raises(UnsupportedModel, match=r"Run this model with llama.cpp"):
        reader.matrix(TensorInfo("w", (COLUMNS, ROWS), T.I32, 0, data.nbytes))
    reader.close()
