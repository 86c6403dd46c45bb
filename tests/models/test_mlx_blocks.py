"""Numbers as MLX packs them and the blocks of GGUF that say the same: exact where they can be, the loss told."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from peerinfer.errors import UnsupportedModel
from peerinfer.models.mlx_import.blocks import TYPE_OF_BITS, Loss, floats, numbers, permuted, quantised_blocks
from tests.models.mlx_packed import packed


@settings(max_examples=40, deadline=None)
@given(bits=st.sampled_from([2, 3, 4, 5, 6, 8]), repeats=st.integers(1, 4), seed=st.integers(0, 1000))
def test_blocks_say_what_the_groups_say(bits: int, repeats: int, seed: int) -> None:
    group = 32 * repeats
    stored = packed(3, 2 * group, seed, bits=bits, group=group)
    words, scale, bias = (stored[part][1] for part in ("weight", "scales", "biases"))
    q = numbers(words.view(np.uint8), bits)
    stream = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").reshape(3, -1, bits)
    assert (q == (stream.astype(np.int64) << np.arange(bits)).sum(axis=2)).all()
    exact = q.reshape(3, 2, group) * scale[..., None].astype(np.float64) + bias[..., None].astype(np.float64)
    blocks, loss = quantised_blocks(q, scale.astype(np.float32), bias.astype(np.float32), bits)
    said = dequantize(blocks, TYPE_OF_BITS[bits]).reshape(exact.shape)
    off = float(((said - exact) ** 2).sum())
    if bits < 6:
        assert np.allclose(said, exact, rtol=0, atol=1e-6)  # but for float32's own last bit
        assert loss.error == 0
    assert loss.relative == pytest.approx((off / (exact**2).sum()) ** 0.5, rel=1e-3, abs=1e-6)


def test_scales_of_more_digits_than_16_bits_have_are_lost_and_told() -> None:
    q = np.arange(64, dtype=np.uint8).reshape(1, 64) % 16
    scale, bias = np.array([[0.1234567]], np.float32), np.array([[-0.7654321]], np.float32)
    blocks, loss = quantised_blocks(q, scale, bias, 4)
    exact = q * np.float64(scale[0, 0]) + np.float64(bias[0, 0])
    off = dequantize(blocks, GGMLQuantizationType.Q4_1).reshape(-1) - exact[0]
    assert 1e-5 < loss.relative < 1e-3
    assert loss.relative == pytest.approx(np.linalg.norm(off) / np.linalg.norm(exact), rel=1e-2)


@pytest.mark.parametrize("value", [np.nan, np.inf, 7e4])
@pytest.mark.parametrize("bits", [4, 8])
def test_scales_that_16_bits_cannot_hold_are_refused(value: float, bits: int) -> None:
    q = np.full((1, 32), 3, np.uint8)
    with pytest.raises(UnsupportedModel, match="too large"):
        quantised_blocks(q, np.array([[value * 127]], np.float32), np.zeros((1, 1), np.float32), bits)


def test_rows_of_heads_change_places_as_pairs_do() -> None:
    rows = np.arange(16).reshape(16, 1)
    assert permuted(rows, 8)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_numbers_of_every_type_are_read() -> None:
    values = np.array([1.5, -2.0, 0.25], np.float32)
    assert (floats((values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8), "BF16") == values).all()
    assert (floats(values.astype(np.float16).view(np.uint8), "F16") == values).all()
    assert Loss().relative == 0
