"""Models of every kind that can be imported: logits of `mlx_lm`'s own model against both engines on the GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from peerinfer.models.mlx_import.conversion import convert
from peerinfer.net.frames import Row
from tests.engine.chains import stages
from tests.models.mlx_folders import CONFIGS, TinyModel

pytest.importorskip("mlx_lm")

TOKENS = 40
"""As many as see long positions, and more than the windows of the tiny models."""
EXACT = 5e-4
"""MLX stages compute what `mlx_lm` computes, in another order; its gemma3 rounds a factor to bfloat16."""
CLOSE = 5e-3
"""llama.cpp, with weights that are not quantised: it keeps keys and values of attention in half precision."""
QUANTISED = 0.12
"""llama.cpp rounds what it multiplies with quantised weights to 8 bits: much for random weights, more by layer."""
ROUNDED = 0.06
"""8-bit weights are rounded anew."""


def run(model: Path, folder: Path, engine: str, ids: np.ndarray) -> np.ndarray:
    """Logits of every position, from one stage."""
    with stages(model, folder, {"engine": engine, "cache_type_k": "f32", "cache_type_v": "f32"}) as made:
        chain = made.chain(())
        return np.concatenate([chain.run([Row(0, 0, at, 1, True)], ids[at : at + 1]) for at in range(len(ids))])


def off(logits: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("name", "bits", "group"),
    [
        *((name, bits, 64) for name in CONFIGS for bits in (0, 4)),
        ("llama", 4, 32),
        ("llama", 2, 32),
        ("llama", 3, 64),
        ("llama", 5, 128),
        ("llama", 6, 64),
        ("llama", 8, 64),
        ("phi3", 8, 32),
    ],
)
def test_logits_of_an_imported_model_are_those_of_mlx_lm(name: str, bits: int, group: int, tmp_path: Path) -> None:
    tiny = TinyModel(tmp_path / "tiny", name, bits=bits, group=group)
    converted = convert(tmp_path / "tiny", tmp_path / "tiny.gguf", lambda _: None)
    ids = np.random.default_rng(1).integers(0, 260, TOKENS).astype(np.int32)
    expected = tiny.logits(ids)
    exact = bits not in (6, 8)
    assert converted.loss == 0 if exact else 1e-3 < converted.loss < 1e-2
    assert off(run(tmp_path / "tiny.gguf", tmp_path, "mlx", ids), expected) < (EXACT if exact else ROUNDED)
    assert off(run(tmp_path / "tiny.gguf", tmp_path, "llama.cpp", ids), expected) < (QUANTISED if bits else CLOSE)


def test_what_is_wrong_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerances tell a conversion that leaves the rows of Q and K where they are."""
    monkeypatch.setattr("peerinfer.models.mlx_import.conversion.permuted", lambda rows, _: rows)
    tiny = TinyModel(tmp_path / "tiny", "llama", bits=4)
    convert(tmp_path / "tiny", tmp_path / "tiny.gguf", lambda _: None)
    ids = np.random.default_rng(1).integers(0, 260, TOKENS).astype(np.int32)
    expected = tiny.logits(ids)
    for engine in ("mlx", "llama.cpp"):
        assert off(run(tmp_path / "tiny.gguf", tmp_path, engine, ids), expected) > 2 * QUANTISED
