"""The sampler: greedy, each filter by its definition, and chance that depends on seed and index alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from peerinfer.engine.base import Sampling
from peerinfer.engine.sampler import REPETITION_WINDOW, _candidates, sample

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


def oracle(logits: npt.NDArray[np.float32], top_k: int, top_p: float, min_p: float) -> list[int]:
    """The candidates by the definitions, with everything sorted."""
    order = sorted(range(len(logits)), key=lambda token: -float(logits[token]))
    kept = order[:top_k] if top_k else order
    weights = [math.exp(float(logits[token]) - float(logits[kept[0]])) for token in kept]
    total, mass, nucleus = math.fsum(weights), 0.0, 0
    for weight in weights:
        nucleus += 1
        mass += weight
        if mass > top_p * total:
            break
    kept, weights = (kept[:nucleus], weights[:nucleus]) if top_p < 1 else (kept, weights)
    return sorted(token for token, weight in zip(kept, weights, strict=True) if weight >= min_p)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary=st.sampled_from([1, 2, 30, 600, 9000]),
    top_k=st.sampled_from([0, 1, 7, 500, 10_000]),
    top_p=st.sampled_from([1.0, 0.0, 0.3, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.013, 0.2, 1.0]),
    spread=st.sampled_from([0.1, 1.0, 6.0]),
)
def test_the_candidates_are_those_of_the_definitions(
    seed: int, vocabulary: int, top_k: int, top_p: float, min_p: float, *, spread: float
) -> None:
    logits = (np.random.default_rng(seed).standard_normal(vocabulary) * spread).astype(np.float32)
    assume(len(np.unique(logits)) == vocabulary)  # which of two equals is kept, nothing says
    found = _candidates(logits, Sampling(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)).tolist()
    wanted = oracle(logits, top_k, top_p, min_p)
    assert len(set(found) ^ set(wanted)) <= (top_p < 1)  # the last of a nucleus hangs on the last bit of a sum


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
