"""Pick a token from logits: penalties, bias, temperature, top-k, top-p, min-p, seeded chance.

Order as in llama.cpp's default chain (common/sampling.cpp): penalties, then top-k, top-p, min-p, temperature.
Chance for token number i of an answer comes from a counter-based generator keyed by (seed, i), so the same
request gives the same answer on whichever node, and after whichever loss, it is sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peerinfer.engine.base import Sampling

REPETITION_WINDOW = 64
"""Tokens back that the repetition penalty sees: llama.cpp's default `penalty_last_n`."""

Row = npt.NDArray[np.float32]


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
    vocabulary = len(logits)
    keep = vocabulary if sampling.top_k <= 0 else min(sampling.top_k, vocabulary)
    candidates = np.arange(vocabulary) if keep == vocabulary else np.argpartition(logits, -keep)[-keep:]
    order = np.argsort(-logits[candidates], kind="stable")
    candidates = candidates[order]
    values = logits[candidates].astype(np.float64)
    plain = np.exp(values - values[0])
    plain /= plain.sum()
    if sampling.top_p < 1.0:
        nucleus = int(np.searchsorted(plain.cumsum(), max(sampling.top_p, 0.0))) + 1
        candidates, values, plain = candidates[:nucleus], values[:nucleus], plain[:nucleus]
    if sampling.min_p > 0.0:
        likely = plain >= plain[0] * sampling.min_p
        candidates, values = candidates[likely], values[likely]
    weights = np.exp((values - values[0]) / sampling.temperature)
    cumulative: npt.NDArray[np.float64] = weights.cumsum()
    chance = np.random.Generator(np.random.Philox(key=sampling.seed % 2**64, counter=index)).random()
    chosen = int((cumulative <= chance * cumulative[-1]).sum())
    return candidates[: chosen + 1].tolist()[-1]
