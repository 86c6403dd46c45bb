"""From OpenAI's request bodies to a `ChatRequest`: what is supported, what is harmless, what is refused by name."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, cast

from peerinfer.api.body import Fields
from peerinfer.api.replies import JsonObject
from peerinfer.engine.base import Sampling
from peerinfer.errors import BadParameter
from peerinfer.pipeline.requests import ChatMessage, ChatRequest

MODEL_NAME_MAX = 512
"""Characters of a model's name; a path may be one."""
MESSAGES_MAX = 4096
STOPS_MAX = 16
STOP_LENGTH_MAX = 1024
"""Characters of a stop string: the gateway holds back as much text as the longest has."""
TOKENS_MAX = 1 << 24
"""Above any context; what does not fit the model's own is refused by the gateway."""
LOGIT_BIAS_MAX = 1024
"""Entries: they travel with the request to the last stage."""
COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for `/v1/completions`."""

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_COMMON = frozenset({
    "model", "stream", "stream_options", "stop", "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "n",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "private", "peerinfer",
})  # fmt: skip
_CHAT_ONLY = frozenset({"messages", "max_completion_tokens"})
_HARMLESS = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls", "prediction", "reasoning_effort", "verbosity",
})  # fmt: skip
"""Ignored: they name the user, steer a provider's billing and caches, or are hints that may be passed over."""
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
"""Not supported, but fine with these values, which ask for nothing."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A request and how its answer is to be told."""

    request: ChatRequest
    stream: bool
    include_usage: bool
    """Whether the stream ends with a chunk of token counts."""
    details: bool
    """Whether the end carries the `peerinfer` object: token ids and measured times."""


def read_chat(body: JsonObject) -> Wish:
    """The body of `/v1/chat/completions`. Raises `BadParameter`."""
    _refuse_unsupported(body, _COMMON | _CHAT_ONLY)
    fields = Fields(body)
    limit = "max_completion_tokens" if fields.raw("max_completion_tokens") is not None else "max_tokens"
    return _wish(fields, _messages(fields.raw("messages")), None, _max_tokens(fields, limit))


def read_completion(body: JsonObject) -> Wish:
    """The body of `/v1/completions`. Raises `BadParameter`."""
    _refuse_unsupported(body, _COMMON | {"prompt"})
    fields = Fields(body)
    prompt = fields.raw("prompt")
    if isinstance(prompt, list) and len(cast(list[Any], prompt)) == 1:
        prompt = cast(list[Any], prompt)[0]
    if not isinstance(prompt, str):
        raise BadParameter("prompt", "`prompt` must be one string: lists of prompts or of tokens are not supported.")
    return _wish(fields, (), prompt, _max_tokens(fields, "max_tokens") or COMPLETION_TOKENS)


def _refuse_unsupported(body: JsonObject, known: frozenset[str]) -> None:
    for name, value in body.items():
        if name in known or name in _HARMLESS or value is None:
            continue
        if name not in _NEUTRAL:
            raise BadParameter(name, f"`{name[:64]}` is not a parameter that peerinfer knows: leave it out.")
        if value not in _NEUTRAL[name]:
            raise BadParameter(name, f"`{name}` is not supported by peerinfer yet: leave it out.")


def _wish(fields: Fields, messages: tuple[ChatMessage, ...], prompt: str | None, max_tokens: int | None) -> Wish:
    fields.integer("n", 1, 1, 1)
    options = fields.raw("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadParameter("stream_options", "`stream_options` must be an object.")
    request = ChatRequest(
        model=fields.text("model", max_length=MODEL_NAME_MAX),
        messages=messages,
        sampling=_sampling(fields),
        max_tokens=max_tokens,
        stop=_stops(fields.raw("stop")),
        private=fields.flag("private"),
        prompt=prompt,
    )
    return Wish(
        request,
        stream=fields.flag("stream"),
        include_usage=Fields(cast(JsonObject, options or {})).flag("include_usage"),
        details=fields.flag("peerinfer"),
    )


def _max_tokens(fields: Fields, name: str) -> int | None:
    return None if fields.raw(name) is None else fields.integer(name, 1, 1, TOKENS_MAX)


def _sampling(fields: Fields) -> Sampling:
    """OpenAI's defaults: temperature 1, and another answer each time unless `seed` is given."""
    seed = secrets.randbits(32) if fields.raw("seed") is None else fields.integer("seed", 0, -(2**63), 2**64)
    return Sampling(
        temperature=fields.number("temperature", 1.0, 0.0, 2.0),
        top_k=fields.integer("top_k", 0, 0, TOKENS_MAX),
        top_p=fields.number("top_p", 1.0, 0.0, 1.0),
        min_p=fields.number("min_p", 0.0, 0.0, 1.0),
        repetition_penalty=fields.number("repetition_penalty", 1.0, 0.01, 10.0),
        presence_penalty=fields.number("presence_penalty", 0.0, -2.0, 2.0),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2.0, 2.0),
        seed=seed & (2**63 - 1),
        logit_bias=_logit_bias(fields.raw("logit_bias")),
    )


def _logit_bias(value: object) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or len(cast(dict[str, Any], value)) > LOGIT_BIAS_MAX:
        raise BadParameter("logit_bias", f"`logit_bias` must be an object of at most {LOGIT_BIAS_MAX} entries.")
    pairs: list[tuple[int, float]] = []
    for token, bias in cast(dict[str, Any], value).items():
        if not (token.isascii() and token.isdigit() and len(token) <= 9):
            raise BadParameter("logit_bias", "`logit_bias` must have token ids as keys.")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise BadParameter("logit_bias", "`logit_bias` must have numbers from -100 to 100 as values.")
        pairs.append((int(token), float(bias)))
    return tuple(pairs)


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    items = cast(list[Any], value) if isinstance(value, list) else [value]
    texts = tuple(text for text in items if isinstance(text, str) and 0 < len(text) <= STOP_LENGTH_MAX)
    if len(texts) != len(items) or len(items) > STOPS_MAX:
        raise BadParameter(
            "stop", f"`stop` must be a string, or at most {STOPS_MAX} strings, of 1 to {STOP_LENGTH_MAX} characters."
        )
    return texts


def _messages(value: object) -> tuple[ChatMessage, ...]:
    if not isinstance(value, list) or not 0 < len(cast(list[Any], value)) <= MESSAGES_MAX:
        raise BadParameter("messages", f"`messages` must be a list of 1 to {MESSAGES_MAX} messages.")
    return tuple(_message(f"messages[{i}]", item) for i, item in enumerate(cast(list[Any], value)))


def _message(where: str, value: object) -> ChatMessage:
    if not isinstance(value, dict):
        raise BadParameter(where, f"`{where}` must be an object.")
    item = cast(JsonObject, value)
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadParameter(f"{where}.role", f"`{where}.role` must be system, developer, user or assistant.")
    for name in ("tool_calls", "function_call", "audio"):
        if item.get(name):
            raise BadParameter(f"{where}.{name}", f"`{where}.{name}` is not supported by peerinfer yet.")
    return ChatMessage(_ROLES[role], _content(f"{where}.content", item.get("content")))


def _content(where: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise BadParameter(where, f"`{where}` must be a string or a list of text parts.")
    texts: list[str] = []
    for i, part in enumerate(cast(list[Any], value)):
        fields = cast(JsonObject, part) if isinstance(part, dict) else {}
        if fields.get("type") != "text" or not isinstance(fields.get("text"), str):
            raise BadParameter(f"{where}[{i}]", f"`{where}[{i}]` is not a text part: only text is supported.")
        texts.append(fields["text"])
    return "".join(texts)
