"""The stages of one model run one after the other in this process, over any split, and a story that they all tell."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from peerinfer.engine.base import StageSpec
from peerinfer.engine.batching import BatchingEngine
from peerinfer.engine.kinds import MLX
from peerinfer.engine.llama import LlamaStage
from peerinfer.models.facts import model_facts
from peerinfer.models.gguf import read_header
from peerinfer.models.shards import stage_key
from peerinfer.net.frames import Row
from tests.cutting import cut
from tests.engine.engines import GPU_OFF, IS_ON_GPU

CONTEXT = 64
CHUNKS = ([(0, 7)], [(0, 2), (0, 5)], [(0, 11), (1, 3), (0, 2), (1, 6)])
"""Ways to prefill: (slot, tokens) one after the other."""


CUTS_MAX = 6
"""More of them make too many splits for a test."""


def open_stage(spec: StageSpec) -> BatchingEngine:
    """The stage in this process, with the engine that its spec names, and without the check that a load makes."""
    if spec.engine == MLX:
        from peerinfer.engine.mlx import MlxStage  # not installed everywhere

        return MlxStage(spec, lambda _: None)
    return LlamaStage(spec, lambda _: None)


class Stages:
    """The stages of one model, each loaded once however many splits it is part of."""

    def __init__(self, model: Path, folder: Path, options: Mapping[str, Any] | None = None) -> None:
        self.facts = model_facts(read_header(model))
        self._model = model
        self._folder = folder
        self._options = options or {}
        self._loaded: dict[tuple[int, int], BatchingEngine] = {}

    def spec(self, first: int, last: int) -> StageSpec:
        """The stage of layers `first` … `last - 1`, its shard cut."""
        key = stage_key("0" * 64, first, last, self.facts.n_layers)
        given: dict[str, Any] = {"context": CONTEXT, "slots": 2, "chunk": 16, "threads": 1, **self._options}
        return StageSpec(
            kind=key.kind,
            first=first == 0,
            shard_path=str(cut(self._model, key, self._folder)),
            model_path=str(self._model),
            layers=last - first,
            n_embd=self.facts.n_embd,
            n_vocab=self.facts.n_vocab,
            **given,
        )

    def stage(self, first: int, last: int) -> BatchingEngine:
        """The same, loaded."""
        if (first, last) not in self._loaded:
            stage = open_stage(self.spec(first, last))
            stage.batch_rows = False
            self._loaded[first, last] = stage
        return self._loaded[first, last]

    def chain(self, cuts: Sequence[int]) -> Chain:
        """The stages of the split at `cuts`."""
        bounds = itertools.pairwise([0, *cuts, self.facts.n_layers])
        return Chain([self.stage(first, last) for first, last in bounds], self.facts.n_vocab)

    def splits(self) -> list[tuple[int, ...]]:
        """All legal splits but the whole model; of very many those in two and the finest."""
        cuts = self.facts.legal_cuts
        if len(cuts) > CUTS_MAX:
            return [*((cut,) for cut in cuts), cuts]
        return [split for n in range(1, len(cuts) + 1) for split in itertools.combinations(cuts, n)]

    def close(self) -> None:
        """Frees all stages."""
        for stage in self._loaded.values():
            stage.close()


class Chain:
    """The stages of one split, in order."""

    def __init__(self, stages: Sequence[BatchingEngine], n_vocab: int) -> None:
        self.stages = stages
        self.n_vocab = n_vocab

    def run(self, rows: Sequence[Row], tokens: np.ndarray) -> np.ndarray:
        """Logits of the rows that sample."""
        out = self.stages[0].forward(rows, tokens, None)
        for stage in self.stages[1:]:
            out = stage.forward(rows, None, out)
        return out

    def truncate(self, slot: int, length: int) -> None:
        """Forgets positions ≥ `length` of `slot` on every stage."""
        for stage in self.stages:
            stage.truncate(slot, length)


@contextmanager
def stages(model: Path, folder: Path, options: Mapping[str, Any] | None = None) -> Generator[Stages]:
    """The stages of `model`, with their shards in `folder`; `options` are fields of `StageSpec`."""
    made = Stages(model, folder, options)
    try:
        yield made
    finally:
        made.close()


def story(chain: Chain) -> list[np.ndarray]:
    """Prefill in chunks, decode of two interleaved sequences, a roll-back, and decode again: all logits."""
    random = np.random.default_rng(5)
    ids = random.integers(3, chain.n_vocab, (2, CONTEXT)).astype(np.int32)
    seen: list[np.ndarray] = []
    for chunks in CHUNKS:
        held = [0, 0]
        for slot in (0, 1):
            chain.truncate(slot, 0)
        for slot, count in chunks:
            row = Row(slot, 0, held[slot], count, True)
            seen.append(chain.run([row], ids[slot, held[slot] : held[slot] + count]))
            held[slot] += count
        for _ in range(4):
            rows = [Row(slot, 0, held[slot], 1, True) for slot in (0, 1)]
            seen.append(chain.run(rows, np.array([ids[0, held[0]], ids[1, held[1]]], np.int32)))
            held = [held[0] + 1, held[1] + 1]
        chain.truncate(0, held[0] - 4)
        held[0] -= 4
        for _ in range(2):
            seen.append(chain.run([Row(0, 0, held[0], 1, True)], ids[0, held[0] : held[0] + 1]))
            held[0] += 1
    return seen


def assert_equal(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], cuts: Sequence[int]) -> None:
    """Fails unless two stories are the same to the last bit; on a GPU they need not be."""
    for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
        bound = GPU_OFF * np.ptp(one) if IS_ON_GPU else 0.0
        assert (np.abs(one - other) <= bound).all(), f"cuts {cuts}, step {number}, off by {np.abs(one - other).max()}"


def assert_every_split_equals_the_whole(made: Stages) -> None:
    """Fails unless every legal split of a model gives the logits of the whole model, to the last bit."""
    expected = story(made.chain(()))
    assert all(np.isfinite(logits).all() and np.ptp(logits) > 0 for logits in expected)
    assert made.splits()
    for cuts in made.splits():
        assert_equal(expected, story(made.chain(cuts)), cuts)
