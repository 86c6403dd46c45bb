"""The sampler: greedy, each filter by its definition, and chance that depends on seed and index alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from peerinfer.engine.base import Sampling
from peerinfer.engine.sampler import REPETITION_WINDOW, sample

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))


def drawn(sampling: Sampling, times: int = 400) -> list[int]:
    """Token number i for i in 0 … times, as a long answer would draw them."""
    return [sample(LOGITS, sampling, [], [9] * index) for index in range(times)]


def test_greedy_takes_the_most_likely() -> None:
    assert sample(LOGITS, Sampling(), [], []) == 0


def test_chance_follows_the_probabilities() -> None:
    counts = np.bincount(drawn(Sampling(temperature=1.0, seed=3), 4000), minlength=4) / 4000
    assert np.abs(counts - [0.5, 0.25, 0.15, 0.1]).max() < 0.03


@given(st.integers(0, 2**63), st.integers(0, 5000))
def test_chance_depends_on_seed_and_index_alone(seed: int, index: int) -> None:
    sampling = Sampling(temperature=0.9, seed=seed)
    first = sample(LOGITS, sampling, [1, 2], [3] * index)
    assert first == sample(LOGITS, sampling, [], list(range(index)))


def test_top_k_top_p_and_min_p_keep_what_they_say() -> None:
    assert set(drawn(Sampling(temperature=1.0, top_k=2))) == {0, 1}
    assert set(drawn(Sampling(temperature=1.0, top_p=0.6))) == {0, 1}
    assert set(drawn(Sampling(temperature=1.0, top_p=0.0))) == {0}
    assert set(drawn(Sampling(temperature=1.0, min_p=0.29))) == {0, 1, 2}
    assert set(drawn(Sampling(temperature=5.0))) == {0, 1, 2, 3}


def test_penalties_and_bias_shift_the_greedy_choice() -> None:
    assert sample(LOGITS, Sampling(logit_bias=((2, 5.0), (99, 1.0))), [], []) == 2
    assert sample(LOGITS, Sampling(presence_penalty=2.0), [0], [0]) == 1
    assert sample(LOGITS, Sampling(presence_penalty=2.0), [0], []) == 0
    assert sample(LOGITS, Sampling(frequency_penalty=0.4), [], [0, 0]) == 1
    assert sample(LOGITS, Sampling(repetition_penalty=3.0), [0], []) == 1
    assert sample(LOGITS, Sampling(repetition_penalty=3.0), [0] + [3] * REPETITION_WINDOW, []) == 0


def test_logits_are_left_as_they_were() -> None:
    before = LOGITS.copy()
    sample(LOGITS, Sampling(temperature=1.0, presence_penalty=1.0, logit_bias=((1, 2.0),)), [], [0])
    assert (before == LOGITS).all()
