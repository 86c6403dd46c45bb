"""The proof of each row of the table: every legal split of a tiny model equals the whole, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peerinfer.models import architectures
from peerinfer.models.architecture_table import ROWS
from peerinfer.net.frames import Row
from tests.engine.chains import assert_every_split_equals_the_whole, stages, story
from tests.tiny_architectures import MODELS
from tests.tiny_parts import write_tiny


@pytest.mark.parametrize("name", MODELS)
def test_every_split_equals_the_whole_model(tmp_path: Path, name: str) -> None:
    model = write_tiny(tmp_path / "tiny.gguf", MODELS[name])
    with stages(model, tmp_path) as made:
        assert_every_split_equals_the_whole(made)


@pytest.mark.parametrize("name", ["llama", "gemma2", "glm4", "glm4 of several positions", "granite"])
def test_rows_of_several_sequences_keep_their_own_input(tmp_path: Path, name: str) -> None:
    """However a stage's input enters, rows that run together give what they give alone, but for rounding."""
    model = write_tiny(tmp_path / "tiny.gguf", MODELS[name])
    with stages(model, tmp_path) as made:
        split = made.chain((made.facts.legal_cuts[0],))
        ids = np.arange(10, 20, dtype=np.int32)
        rows = [Row(1, 0, 5, 1, True), Row(0, 0, 4, 1, True)]
        given: list[np.ndarray] = []
        for together in (False, True):
            for stage in split.stages:
                stage.batch_rows = together
            for slot in (0, 1):
                split.truncate(slot, 0)
                split.run([Row(slot, 0, 0, 4 + slot, False)], ids[: 4 + slot])
            given.append(split.run(rows, np.array([7, 8], np.int32)))
    assert np.allclose(given[0], given[1], atol=1e-4)
    assert not np.allclose(given[0][0], given[0][1], atol=1e-2)


def test_every_row_has_its_proof() -> None:
    assert {row.name for row in ROWS} == {tiny.architecture for tiny in MODELS.values()}


@pytest.mark.parametrize(
    ("name", "changed", "cut"),
    [
        ("gemma2", {"sliding": None}, 1),
        ("gemma2", {"input_tensor": ""}, 3),
        ("cohere2", {"sliding": None}, 2),
        ("gemma3", {"sliding": None}, 3),
        ("gemma3 of its own period", {"sliding": None}, 1),
        ("olmo2", {"sliding": None}, 2),
        ("gpt-oss", {"sliding": None}, 1),
        ("granite", {"rewritten": lambda _header, _n_layers: {}}, 2),
        ("granite", {"embedding_factor": lambda _header: 1.0}, 2),
        ("gemma3", {"embedding_factor": lambda _header: 1.0}, 2),
        ("minicpm", {"rewritten": lambda _header, _n_layers: {}}, 2),
        ("smollm3", {"cut_step": lambda _header, _n_layers: 1}, 2),
        ("llama4", {"cut_step": lambda _header, _n_layers: 1}, 6),
        ("smallthinker", {"cut_step": lambda _header, _n_layers: 1}, 6),
        ("smallthinker", {"cut_step": lambda _header, _n_layers: 4}, 4),
    ],
)
def test_the_proof_fails_without_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changed: dict[str, Any], cut: int
) -> None:
    """A rule that is taken away shows in the logits; so the tiny models are able to prove it."""
    tiny = MODELS[name]
    model = write_tiny(tmp_path / "tiny.gguf", tiny)
    with stages(model, tmp_path) as made:
        whole = story(made.chain(()))
    monkeypatch.setitem(
        architectures._BY_NAME, tiny.architecture, replace(architectures.architecture(tiny.architecture), **changed)
    )
    with stages(model, tmp_path) as made:
        broken = story(made.chain((cut,)))
    assert max(np.abs(one - other).max() for one, other in zip(whole, broken, strict=True)) > 1e-3
