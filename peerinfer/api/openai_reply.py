"""From an `Answer` to OpenAI's response objects. Chunks of a stream are cut from templates: one is sent per token."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

from peerinfer import clock
from peerinfer.api.replies import JsonObject
from peerinfer.api.sse import event_of
from peerinfer.pipeline.requests import Answer

DONE = b"data: [DONE]\n\n"


class Shape(ABC):
    """How one answer is told, in pieces or whole."""

    id_prefix: str
    chunk_kind: str
    whole_kind: str

    def __init__(self, answer: Answer, include_usage: bool) -> None:
        self._head: JsonObject = {
            "id": f"{self.id_prefix}-{answer.request_id}",
            "created": int(clock.wall()),
            "model": answer.model,
        }
        self._chunk_head = {"object": self.chunk_kind, **self._head, **({"usage": None} if include_usage else {})}
        # The choice comes first in a chunk, so the first "@" is the place of the text.
        before, after = event_of(self._chunk(self._piece("@"), None)).split(b'"@"', 1)
        self._before, self._after = before, after

    @abstractmethod
    def _piece(self, text: str | None) -> JsonObject:
        """The part of a choice that carries `text`; None in the last chunk."""

    @abstractmethod
    def _all(self, text: str) -> JsonObject:
        """The part of a choice that carries the whole answer."""

    def _chunk(self, piece: JsonObject, reason: str | None) -> JsonObject:
        choice = {**piece, "index": 0, "logprobs": None, "finish_reason": reason}
        return {"choices": [choice], **self._chunk_head}

    def opening(self) -> bytes:
        """Event that goes out before the first token; may be empty."""
        return b""

    def text(self, text: str) -> bytes:
        """Event of a piece of the answer."""
        return b"%b%b%b" % (self._before, json.dumps(text).encode(), self._after)

    def finish(self, reason: str, details: JsonObject | None) -> bytes:
        """Event of the end, with the `peerinfer` object if it was asked for."""
        return event_of({**self._chunk(self._piece(None), reason), **_extension(details)})

    def usage(self, counts: JsonObject) -> bytes:
        """Event of the token counts."""
        return event_of({"choices": [], **self._chunk_head, "usage": counts})

    def whole(self, text: str, reason: str, counts: JsonObject, details: JsonObject | None) -> JsonObject:
        """The body of an answer that is not streamed."""
        choice = {**self._all(text), "index": 0, "logprobs": None, "finish_reason": reason}
        return {"object": self.whole_kind, **self._head, "choices": [choice], "usage": counts, **_extension(details)}


class ChatShape(Shape):
    """`chat.completion`."""

    id_prefix = "chatcmpl"
    chunk_kind = "chat.completion.chunk"
    whole_kind = "chat.completion"

    def opening(self) -> bytes:
        """The role, which OpenAI tells before any text."""
        return event_of(self._chunk({"delta": {"role": "assistant", "content": ""}}, None))

    def _piece(self, text: str | None) -> JsonObject:
        return {"delta": {} if text is None else {"content": text}}

    def _all(self, text: str) -> JsonObject:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}


class CompletionShape(Shape):
    """`text_completion`."""

    id_prefix = "cmpl"
    chunk_kind = whole_kind = "text_completion"

    def _piece(self, text: str | None) -> JsonObject:
        return {"text": text or ""}

    def _all(self, text: str) -> JsonObject:
        return {"text": text}


def counts_of(answer: Answer) -> JsonObject:
    """OpenAI's `usage`."""
    prompt, completion = len(answer.prompt_token_ids), len(answer.token_ids)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def details_of(answer: Answer) -> JsonObject:
    """The `peerinfer` object: token ids, and what was measured."""
    return {
        "prompt_token_ids": list(answer.prompt_token_ids),
        "token_ids": list(answer.token_ids),
        "ttft_ms": round(answer.ttft_ms, 3),
        "tokens_per_s": round(answer.tokens_per_s, 3),
    }


def _extension(details: JsonObject | None) -> JsonObject:
    return {} if details is None else {"peerinfer": details}
