"""The embedding look-up equals the model's table, and llama.cpp's own arithmetic to the bit."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import psutil
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as QuantType
from gguf.quants import dequantize, quantize

from peerinfer.errors import BadRequest, CorruptModel
from peerinfer.models.embedding import EmbeddingTable
from tests.tiny import write_tiny_llama


def ids(*numbers: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(numbers, np.int32)


@pytest.mark.parametrize("quant", [QuantType.F32, QuantType.F16, QuantType.BF16, QuantType.Q8_0, QuantType.Q4_0])
def test_rows_are_those_of_the_table(tmp_path: Path, quant: QuantType) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", quant=quant)
    random = np.random.default_rng(0)
    table = random.standard_normal((320, 64), np.float32) * np.float32(64**-0.5)
    expected = dequantize(quantize(table, quant).view(np.uint8).reshape(320, -1), quant)
    wanted = ids(319, 0, 7, 7, 200)
    with EmbeddingTable(path) as embedding:
        rows = embedding.rows(wanted)
        assert rows.dtype == np.float32
        assert rows.shape == (5, 64)
        assert rows.tobytes() == np.ascontiguousarray(expected[wanted]).tobytes()
        assert embedding.rows(ids()).shape == (0, 64)


@pytest.mark.parametrize("token", [-1, 320, 2**31 - 1])
def test_ids_outside_the_vocabulary_are_a_bad_request(tmp_path: Path, token: int) -> None:
    with EmbeddingTable(write_tiny_llama(tmp_path / "tiny.gguf")) as embedding, pytest.raises(BadRequest, match="320"):
        embedding.rows(ids(1, token))


def test_a_file_cut_short_under_us_is_an_error(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf")
    with EmbeddingTable(path) as embedding:
        if sys.platform == "win32":
            pytest.skip("Windows does not let an open file be cut")
        with path.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(CorruptModel):
            embedding.rows(ids(319))


def test_memory_stays_small_when_every_row_was_read(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "tiny.gguf", layers=1, width=512, vocab=32_768)
    with EmbeddingTable(path) as embedding:
        embedding.rows(ids(0))
        before = psutil.Process().memory_info().rss
        for start in range(0, 32_768, 512):
            embedding.rows(np.arange(start, start + 512, dtype=np.int32))
        grown = psutil.Process().memory_info().rss - before
    assert grown < 16 << 20, "the table has 64 MiB"


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block_items", ctypes.c_int64),
        ("block_items_interleaved", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float", ctypes.c_void_p),
    )


def ggml_library() -> Any:
    folder = Path(llama_cpp.__file__).parent / "lib"
    names = {"win32": "ggml-base.dll", "darwin": "libggml-base.dylib"}
    return ctypes.CDLL(str(folder / names.get(sys.platform, "libggml-base.so")))


@pytest.mark.parametrize("quant", [quant for quant in QuantType if quant not in (QuantType.F32, QuantType.Q1_0)])
def test_dequantising_equals_ggml_to_the_bit(quant: QuantType) -> None:
    library = ggml_library()
    library.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    traits = library.ggml_get_type_traits(int(quant)).contents
    if not traits.to_float:
        pytest.skip("ggml never looks up rows of this type")
    library.ggml_quantize_init(int(quant))
    block_items, block_bytes = GGML_QUANT_SIZES[quant]
    assert (traits.block_items, traits.block_bytes) == (block_items, block_bytes)
    packed = np.random.default_rng(int(quant)).integers(0, 256, (8, 1024 // block_items * block_bytes), np.uint8)
    theirs = np.empty((8, 1024), np.float32)
    convert = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(traits.to_float)
    convert(packed.ctypes.data, theirs.ctypes.data, theirs.size)
    with np.errstate(all="ignore"):
        ours = dequantize(packed, quant)
    numbers = ~(np.isnan(ours) & np.isnan(theirs))
    assert numbers.mean() > 0.5
    assert np.array_equal(ours.view(np.uint32)[numbers], theirs.view(np.uint32)[numbers])
