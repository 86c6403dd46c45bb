"""Every legal split of a tiny llama gives logits equal, to the last bit, to the whole model's."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from peerinfer.engine.base import StageSpec
from peerinfer.engine.llama import LlamaStage
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import read_header
from peerinfer.models.shards import stage_key
from peerinfer.net.frames import Row
from tests.cutting import cut
from tests.tiny import write_tiny_llama

LAYERS = 5
CONTEXT = 64
CUTS = [cuts for n in range(LAYERS) for cuts in itertools.combinations(range(1, LAYERS), n)]
CHUNKS = [[(0, 7)], [(0, 2), (0, 5)], [(0, 11), (1, 3), (0, 2), (1, 6)]]


class Chain:
    """The stages of one split, run one after the other in this process."""

    def __init__(self, model: Path, folder: Path, cuts: Sequence[int]) -> None:
        facts = model_facts(read_header(model))
        bounds = [0, *cuts, facts.n_layers]
        self.stages: list[LlamaStage] = []
        for first, last in itertools.pairwise(bounds):
            key = stage_key("0" * 64, first, last, facts.n_layers)
            spec = StageSpec(
                kind=key.kind,
                first=first == 0,
                shard_path=str(cut(model, key, folder)),
                model_path=str(model),
                layers=last - first,
                n_embd=facts.n_embd,
                n_vocab=facts.n_vocab,
                context=CONTEXT,
                slots=2,
                chunk=16,
                threads=1,
            )
            stage = LlamaStage(spec, lambda _: None)
            stage.batch_rows = False
            self.stages.append(stage)

    def run(self, rows: Sequence[Row], tokens: np.ndarray) -> np.ndarray:
        """Logits of the rows that sample."""
        out = self.stages[0].forward(rows, tokens, None)
        for stage in self.stages[1:]:
            out = stage.forward(rows, None, out)
        return out

    def truncate(self, slot: int, length: int) -> None:
        for stage in self.stages:
            stage.truncate(slot, length)


@contextmanager
def chain(model: Path, folder: Path, cuts: Sequence[int]) -> Generator[Chain]:
    made = Chain(model, folder, cuts)
    try:
        yield made
    finally:
        for stage in made.stages:
            stage.close()


def story(chained: Chain) -> list[np.ndarray]:
    """Prefill in chunks, decode of two interleaved sequences, a roll-back, and decode again: all logits."""
    random = np.random.default_rng(5)
    ids = random.integers(3, 300, (2, CONTEXT)).astype(np.int32)
    seen: list[np.ndarray] = []
    for chunks in CHUNKS:
        held = [0, 0]
        for slot in (0, 1):
            chained.truncate(slot, 0)
        for slot, count in chunks:
            row = Row(slot, 0, held[slot], count, True)
            seen.append(chained.run([row], ids[slot, held[slot] : held[slot] + count]))
            held[slot] += count
        for _ in range(4):
            rows = [Row(slot, 0, held[slot], 1, True) for slot in (0, 1)]
            seen.append(chained.run(rows, np.array([ids[0, held[0]], ids[1, held[1]]], np.int32)))
            held = [held[0] + 1, held[1] + 1]
        chained.truncate(0, held[0] - 4)
        held[0] -= 4
        for _ in range(2):
            seen.append(chained.run([Row(0, 0, held[0], 1, True)], ids[0, held[0] : held[0] + 1]))
            held[0] += 1
    return seen


@pytest.mark.parametrize("tied", [True, False])
def test_every_split_equals_the_whole_model(tmp_path: Path, tied: bool) -> None:
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS, tied=tied)
    with chain(model, tmp_path, ()) as whole:
        expected = story(whole)
    assert all(np.isfinite(logits).all() and np.ptp(logits) > 0 for logits in expected)
    for cuts in CUTS[1:]:
        with chain(model, tmp_path, cuts) as split:
            actual = story(split)
        for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
            assert (one == other).all(), f"cuts {cuts}, step {number}"


def test_rows_run_together_give_what_they_give_alone(tmp_path: Path) -> None:
    """Batched rows come back in the order of the frame, whatever the order of their slots."""
    model = write_tiny_llama(tmp_path / "tiny.gguf", layers=LAYERS)
    with chain(model, tmp_path, (2,)) as split:
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
