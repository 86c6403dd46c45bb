"""What every engine offers and needs: the stage it runs, the sampling it applies, the orders that slots obey."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peerinfer.engine.kinds import LLAMA
from peerinfer.errors import UnsupportedModel
from peerinfer.net.frames import Row

Hidden = npt.NDArray[np.float32]
"""Hidden states, shape (tokens, n_embd)."""
Logits = npt.NDArray[np.float32]
"""Logits, shape (rows to sample, vocabulary)."""
LOGIT_BIAS_MAX = 1024
"""Tokens that one request may favour or avoid."""
FLASH_ATTENTION = ("auto", "on", "off")
"""Ways to use flash attention."""
WHOLE_CACHE_TYPES = ("f32", "f16", "bf16")
"""Types of a KV cache that keep each number by itself."""
CACHE_TYPES = (*WHOLE_CACHE_TYPES, "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Types of a KV cache that llama.cpp can compute with (`common/arg.cpp`)."""
TokenIds = npt.NDArray[np.int32]
"""Token ids, shape (tokens,)."""
Progress = Callable[[float], None]
"""Told the share of loading that is done, 0 … 1."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the last stage picks a token. The defaults are greedy; it travels with the request."""

    temperature: float = 0.0
    """0 picks the most likely token; above, logits are divided by it."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probabilities sum to this."""
    min_p: float = 0.0
    """Drop tokens less likely than this share of the most likely one."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens seen lately (CTRL paper, section 4.1)."""
    presence_penalty: float = 0.0
    """Subtracted once from each token already produced (OpenAI's definition)."""
    frequency_penalty: float = 0.0
    """Subtracted from each token already produced, times how often (OpenAI's definition)."""
    seed: int = 0
    """Chance of token number i depends on (seed, i) alone, so an answer can be resumed elsewhere."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, value added to its logit) pairs."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for numbers that no sampler can work with: a request may come from any member."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        numbers = (self.temperature, self.top_p, self.min_p, *penalties, *(value for _, value in self.logit_bias))
        if not all(math.isfinite(number) for number in numbers) or len(self.logit_bias) > LOGIT_BIAS_MAX:
            raise ValueError("sampling with numbers that are none")
        if self.temperature < 0 or not 0 <= self.min_p <= 1 or not 0 <= self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError("sampling with numbers out of range")


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """Order: a new sequence takes `slot` under `generation`; whatever stood there before is dropped."""

    slot: int
    generation: int
    request_id: str
    gateway: str
    """Node id to which the tokens of this request go."""
    max_tokens: int
    """The last stage ends the answer with `length` at this many produced tokens."""
    sampling: Sampling
    end_tokens: tuple[int, ...]
    """Token ids that end generation."""
    history: tuple[int, ...] = ()
    """The last tokens before the first sampled one, for the repetition penalty."""
    produced: tuple[int, ...] = ()
    """Tokens this answer already has, when a sequence is started again after a loss."""


@dataclass(frozen=True, slots=True)
class CloseSlot:
    """Order: the sequence in `slot` under `generation` is over."""

    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class TruncateSlot:
    """Order: forget what `slot` holds from position `length` on (a rolled-back suffix)."""

    slot: int
    generation: int
    length: int


Order = OpenSlot | CloseSlot | TruncateSlot


@dataclass(frozen=True, slots=True)
class SampledToken:
    """One token that the last stage produced."""

    slot: int
    generation: int
    request_id: str
    gateway: str
    index: int
    """Number of this token in its answer, from 0."""
    token: int
    finish: str
    """Empty while the answer goes on, else `stop` (end of generation) or `length`."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """All that an engine's process needs to run one stage."""

    kind: str
    """`trunk` (every stage but the last), `last`, or `whole` (first and last on one node)."""
    first: bool
    """Whether this stage takes token ids (it looks embeddings up itself) rather than hidden states."""
    shard_path: str
    """The shard file, or the model file for `whole`."""
    model_path: str
    """Where a first stage finds the embedding table."""
    layers: int
    """Number of layers in this stage."""
    n_embd: int
    n_vocab: int
    context: int
    """Tokens per slot."""
    slots: int
    chunk: int = 512
    """Most tokens computed in one call; longer rows are run in several."""
    threads: int = 0
    """Threads for the computation; 0 lets the engine choose."""
    gpu_layers: int = -1
    """Layers on the GPU where the build has one; -1 puts all there."""
    flash_attention: str = "off"
    """`on`, `off`, or `auto`: where the build has it for this machine. Off gives the same bits in every split."""
    cache_type_k: str = "f16"
    """One of `CACHE_TYPES`: how keys are kept in the KV cache."""
    cache_type_v: str = "f16"
    """One of `CACHE_TYPES`: how values are kept. A type of less than 16 bits needs flash attention."""
    engine: str = LLAMA
    """One of `kinds.ENGINES`."""
    record_path: str = ""
    """Where the fingerprint of this stage is kept for parity checks; empty keeps none."""


def check_options(spec: StageSpec) -> None:
    """Raises `UnsupportedModel` for options of a stage that are unknown or contradict each other."""
    if spec.flash_attention not in FLASH_ATTENTION:
        raise UnsupportedModel(
            f"Flash attention cannot be {spec.flash_attention[:32]!r}. Choose one of {', '.join(FLASH_ATTENTION)}."
        )
    for kind in (spec.cache_type_k, spec.cache_type_v):
        if kind not in CACHE_TYPES:
            raise UnsupportedModel(
                f"A KV cache cannot have the type {kind[:32]!r}. Choose one of {', '.join(CACHE_TYPES)}."
            )
    if spec.cache_type_v not in WHOLE_CACHE_TYPES and spec.flash_attention == "off":
        raise UnsupportedModel(
            f"Values of the KV cache can be kept as {spec.cache_type_v} only with flash attention. "
            "Turn it on, or keep the values as f16."
        )


class StageEngine(Protocol):
    """A stage in this process. Calls are made by one thread, in order."""

    spec: StageSpec

    def forward(self, rows: Sequence[Row], tokens: TokenIds | None, hidden: Hidden | None) -> Hidden | Logits:
        """Runs `rows`, whose positions the caller has checked.

        Exactly one of `tokens` (first stage) and `hidden` is given. A trunk returns hidden states of all
        tokens in row order; a last or whole stage returns one row of logits for each row that samples.
        Raises `EngineError` if the computation failed; the rows' slots are then in an unknown state.
        """
        ...

    def truncate(self, slot: int, length: int) -> None:
        """Forgets positions ≥ `length` of `slot`; 0 clears it.

        Raises `EngineError` for a model that cannot; then it holds nothing of the slot any more.
        """
        ...

    def close(self) -> None:
        """Frees the memory of the stage."""
        ...
