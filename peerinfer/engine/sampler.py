"""Pick a token from logits: penalties, bias, temperature, top-k, top-p, min-p, seeded chance.

Order of the filters as in llama.cpp's default chain (common/sampling.cpp): penalties, then top-k, top-p, min-p,
temperature.
Chance for token number i of an answer comes from a counter-based generator keyed by (seed, i), so the same
request gives the same answer on whichever node, and after whichever loss, it is sampled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peerinfer.engine.base import Sampling

REPETITION_WINDOW = 64
"""Tokens back that the repetition penalty sees: llama.cpp's default `penalty_last_n`."""

NUCLEUS_GUESSES = (512, 8192)
"""Likeliest tokens that are sorted at first, and then: where a model is sure of anything, a nucleus is smaller."""

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


def sample(logits: Row, sampling: Sampling, history: Sequence[int], produced: Sequence[int]) -> int:
    """The next token id.

    `logits`: shape (vocabulary,), not changed. `history`: tokens before the answer (their tail is enough);
    `produced`: tokens of the answer so far.
    """
    if not _shifts(sampling):
        if sampling.temperature <= 0:
            return int(logits.argmax())
        shifted = logits
    else:
        shifted = _penalised(logits, sampling, history, produced)
        if sampling.temperature <= 0:
            return int(shifted.argmax())
    return _draw(shifted, sampling, len(produced))


def _shifts(sampling: Sampling) -> bool:
    return bool(
        sampling.logit_bias
        or sampling.repetition_penalty != 1.0
        or sampling.presence_penalty
        or sampling.frequency_penalty
    )


def _penalised(logits: Row, sampling: Sampling, history: Sequence[int], produced: Sequence[int]) -> Row:
    out = logits.copy()
    vocabulary = len(out)
    for token, bias in sampling.logit_bias:
        if 0 <= token < vocabulary:
            out[token] += bias
    if sampling.repetition_penalty != 1.0:
        recent = np.unique(np.array([*history, *produced][-REPETITION_WINDOW:], dtype=np.int64))
        recent = recent[(recent >= 0) & (recent < vocabulary)]
        seen = out[recent]
        out[recent] = np.where(seen > 0, seen / sampling.repetition_penalty, seen * sampling.repetition_penalty)
    if produced and (sampling.presence_penalty or sampling.frequency_penalty):
        for token, count in Counter(produced).items():
            if 0 <= token < vocabulary:
                out[token] -= sampling.presence_penalty + count * sampling.frequency_penalty
    return out


def _draw(logits: Row, sampling: Sampling, index: int) -> int:
    """By chance among what the filters leave, in the order of token ids.

    A vocabulary of 50 k tokens takes 4 ms to sort: as long as the layers of a small model. Nothing is sorted but the
    few likeliest tokens, and those only for top-p.
    """
    candidates = _candidates(logits, sampling)
    values = logits[candidates].astype(np.float64)
    weights: npt.NDArray[np.float64] = np.exp((values - values.max()) / sampling.temperature)
    cumulative: npt.NDArray[np.float64] = weights.cumsum()
    chance = np.random.Generator(np.random.Philox(key=sampling.seed % 2**64, counter=index)).random()
    drawn = float(chance * cumulative[-1])
    chosen = int(np.searchsorted(cumulative, drawn, side="right"))
    return int(candidates[min(chosen, len(candidates) - 1)])


def _candidates(logits: Row, sampling: Sampling) -> Ids:
    """Token ids, rising, that top-k, top-p and min-p leave; at least one."""
    vocabulary = len(logits)
    keep = vocabulary if sampling.top_k <= 0 else min(sampling.top_k, vocabulary)
    ids = np.arange(vocabulary) if keep == vocabulary else np.argpartition(logits, -keep)[-keep:]
    if sampling.top_p < 1.0:
        ids = _nucleus(logits, ids, sampling.top_p)
    if sampling.min_p > 0.0:
        values = logits[ids].astype(np.float64)
        ids = ids[values >= values.max() + math.log(sampling.min_p)]  # p ≥ min_p · p_max, in logits
    return np.sort(ids)


def _nucleus(logits: Row, ids: Ids, top_p: float) -> Ids:
    """The fewest likeliest of `ids` whose probabilities, among `ids`, add up to more than `top_p`; at least one."""
    values = logits[ids].astype(np.float64)
    weights = np.exp(values - values.max())
    wanted = top_p * float(weights.sum())
    for size in (*NUCLEUS_GUESSES, len(ids)):
        likeliest: Ids = np.argpartition(values, -size)[-size:] if size < len(ids) else np.arange(len(ids))
        likeliest = likeliest[np.argsort(-values[likeliest], kind="stable")]
        cumulative: npt.NDArray[np.float64] = weights[likeliest].cumsum()
        if cumulative[-1] > wanted or size >= len(ids):
            within = int(np.searchsorted(cumulative, wanted, side="right"))
            return ids[likeliest[: within + 1]]
    return ids
