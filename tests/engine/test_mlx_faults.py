"""What a fault in a sequence, or in a file, does to an MLX stage: nothing to other sequences, and a plain sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import StageSpec
from peerinfer.engine.kinds import MLX
from peerinfer.errors import CorruptModel, UnsupportedModel
from peerinfer.models.model_file import read_model
from peerinfer.net.frames import Row
from tests.tiny_architectures import MODELS
from tests.tiny_parts import VOCAB, WIDTH, write_tiny

pytest.importorskip("mlx_lm")

from peerinfer.engine.mlx import MlxStage
from peerinfer.engine.parity import check_parity, read_record, write_record

CHANCE = np.random.default_rng(5)
NO_NUMBERS = [np.nan, np.inf, 1e30]
"""1e30 is a number, but what attention makes of it is none."""


def stage_of(path: Path, slots: int = 2, name: str = "llama") -> MlxStage:
    """All layers behind a first stage elsewhere."""
    spec = StageSpec("last", False, str(path), str(path), MODELS[name].layers, WIDTH, VOCAB, 64, slots, engine=MLX)
    return MlxStage(spec, lambda _: None)


def states(count: int) -> np.ndarray:
    return CHANCE.standard_normal((count, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("bad", NO_NUMBERS)
@pytest.mark.parametrize("together", [True, False])
def test_a_poisoned_sequence_leaves_nothing_for_the_next_in_its_slot(
    tmp_path: Path, name: str, bad: float, together: bool
) -> None:
    stage = stage_of(write_tiny(tmp_path / "tiny.gguf", MODELS[name]), name=name)
    stage.batch_rows = together
    poison = np.full((40, WIDTH), bad, np.float32)
    stage.forward([Row(0, 1, 0, 40, False)], None, poison)
    stage.truncate(0, 0)
    stage.forward([Row(0, 2, 0, 5, False), Row(1, 1, 0, 30, False)], None, states(35))
    after = stage.forward([Row(0, 2, 5, 1, True), Row(1, 1, 30, 1, True)], None, states(2))
    assert np.isfinite(after).all()
    stage.close()


def test_rows_beside_a_poisoned_one_are_computed_as_ever(tmp_path: Path) -> None:
    stage = stage_of(write_tiny(tmp_path / "tiny.gguf", MODELS["llama"]), slots=3)
    stage.batch_rows = True
    prompt, following = states(9), states(3)
    lengths = [2, 3, 4]
    rows = [Row(slot, 1, 0, count, False) for slot, count in enumerate(lengths)]
    step = [Row(slot, 1, count, 1, True) for slot, count in enumerate(lengths)]
    stage.forward(rows, None, prompt)
    wanted = stage.forward(step, None, following)
    following[1] = np.nan
    got = stage.forward(step, None, following)
    assert np.array_equal(got[[0, 2]], wanted[[0, 2]])
    assert not np.isfinite(got[1]).any()
    stage.close()


def test_a_tensor_of_no_layer_is_passed_over(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", MODELS["llama"])
    source = path.read_bytes()
    name = b"blk.3.attn_q.weight"
    assert source.count(name) == 1
    path.write_bytes(source.replace(name, b"blk.x.attn_q.weight"))
    with pytest.raises(CorruptModel, match=r"is damaged: layer 3 has no 'attn_q'"):
        stage_of(path)


def test_a_record_with_numbers_beyond_all_bounds_is_no_record(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    write_record(record, "mlx 1", np.ones((1, 2, 3), np.float32))
    assert read_record(record, "mlx 1") is not None
    told = json.loads(record.read_text())
    told["fingerprint"][0][0][0] = 10**400
    record.write_text(json.dumps(told))
    assert read_record(record, "mlx 1") is None


def test_a_stage_of_weights_that_are_no_numbers_is_refused_in_plain_words(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", MODELS["llama"])
    tensor = read_model(path).by_name["blk.1.ffn_down.weight"]
    damaged = bytearray(path.read_bytes())
    damaged[tensor.offset : tensor.offset + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(damaged)
    stage = stage_of(path)
    with pytest.raises(UnsupportedModel, match="layer 1 of the stage computes what is no number"):
        check_parity(stage, None, "mlx 1")
    stage.close()
