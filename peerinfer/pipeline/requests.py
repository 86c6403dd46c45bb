"""A chat request and its answer, as API routes and the gateway hand them to each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from peerinfer.engine.base import Sampling

GREEDY = Sampling()
"""The most likely token, always."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client wants answered."""

    model: str
    """A model name; empty takes the one that is loaded, if there is just one."""
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = GREEDY
    max_tokens: int | None = None
    """Most tokens of the answer; None = what the context leaves."""
    stop: tuple[str, ...] = ()
    """Strings at which the answer ends, themselves left out; at most 16."""
    private: bool = False
    """Run on this node alone, or fail saying so."""
    prompt: str | None = None
    """Raw text to complete instead of messages (no chat template)."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. `finish` is set on the last one: `stop` or `length`."""

    text: str
    token_ids: tuple[int, ...]
    finish: str | None = None


class Answer(Protocol):
    """An answer on its way. Iterate once; `cancel` frees everything, and is safe to call at any time.

    Iteration raises a `PeerinferError` (see its `retryable`) if the answer breaks off.
    """

    request_id: str
    model: str
    prompt_token_ids: tuple[int, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens so far; the end-of-generation token, if any, included."""
        ...

    @property
    def ttft_ms(self) -> float:
        """Milliseconds from submission to the first token; 0 before it."""
        ...

    @property
    def tokens_per_s(self) -> float:
        """Speed of decoding after the first token; 0 before the second."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    async def cancel(self) -> None:
        """Nothing more is wanted: the slot is freed on every stage."""
        ...


class ChatService(Protocol):
    """What the API needs from the pipeline."""

    async def open(self, request: ChatRequest) -> Answer:
        """Checks, tokenises and admits the request. Raises a `PeerinferError` before any token."""
        ...
