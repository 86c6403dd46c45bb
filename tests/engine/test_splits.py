"""Every legal split of a tiny llama gives logits equal, to the last bit, to the whole model's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.llama import LlamaStage
from peerinfer.net.frames import Row
from tests.engine.chains import assert_every_split_equals_the_whole, stages
from tests.splitting import split_model
from tests.tiny import write_tiny_llama

LAYERS = 5


@pytest.mark.parametrize("tied", [True, False])
def test_every_split_equals_the_whole_model(tmp_path: Path, tied: bool) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=tied)
    with stages(model, tmp_path) as made:
        assert len(made.splits()) == 2 ** (LAYERS - 1) - 1
        assert_every_split_equals_the_whole(made)


def test_rows_run_together_give_what_they_give_alone(tmp_path: Path) -> None:
    """Batched rows come back in the order of the frame, whatever the order of their slots."""
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS)
    with stages(model, tmp_path) as made:
        split = made.chain((2,))
        ids = np.arange(10, 20, dtype=np.int32)
        for slot in (0, 1):
            split.run([Row(slot, 0, 0, 4 + slot, False)], ids[: 4 + slot])
        rows = [Row(1, 0, 5, 1, True), Row(0, 0, 4, 1, True)]
        alone = split.run(rows, np.array([7, 8], np.int32))
        for slot in (0, 1):
            split.truncate(slot, 4 + slot)
        for stage in split.stages:
            stage.batch_rows = True
        together = split.run(rows, np.array([7, 8], np.int32))
    assert np.allclose(alone, together, atol=1e-4)
    assert not np.allclose(alone[0], alone[1], atol=1e-2)


def test_a_model_in_several_files_runs_whole_like_the_one_in_one(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS)
    parts = split_model(model, tmp_path / "parts")
    assert len(parts) > 3
    ids = np.arange(10, 20, dtype=np.int32)
    with stages(model, tmp_path) as made:
        whole = made.stage(0, LAYERS)
        one = whole.forward([Row(0, 0, 0, 10, True)], ids, None)
        joined = LlamaStage(replace(whole.spec, shard_path=str(parts[0]), model_path=str(parts[0])), lambda _: None)
        try:
            assert (joined.forward([Row(0, 0, 0, 10, True)], ids, None) == one).all()
        finally:
            joined.close()
