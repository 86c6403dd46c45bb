"""What becomes of each parameter of OpenAI's bodies."""

from __future__ import annotations

import pytest

from peerinfer.api.openai_request import COMPLETION_TOKENS, read_chat, read_completion
from peerinfer.api.replies import JsonObject
from peerinfer.errors import BadParameter
from peerinfer.pipeline.requests import ChatMessage

HI: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_defaults_are_openais() -> None:
    wish = read_chat(HI)
    assert wish.request.messages == (ChatMessage("user", "hi"),)
    assert (wish.stream, wish.include_usage, wish.details, wish.request.private) == (False, False, False, False)
    assert (wish.request.max_tokens, wish.request.stop, wish.request.prompt) == (None, (), None)
    sampling = wish.request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1.0, 1.0, 0, 0.0)
    assert sampling.seed != read_chat(HI).request.sampling.seed


def test_everything_that_is_supported_arrives() -> None:
    body = {
        **HI,
        "stream": True,
        "stream_options": {"include_usage": True},
        "peerinfer": True,
        "private": True,
        "stop": ["a", "b"],
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.1,
        "max_tokens": 5,
        "max_completion_tokens": 7,
        "presence_penalty": -1,
        "frequency_penalty": 2,
        "repetition_penalty": 1.1,
        "seed": -1,
        "logit_bias": {"5": -100, "7": 1.5},
        "n": 1,
    }
    wish = read_chat(body)
    request, sampling = wish.request, wish.request.sampling
    assert (wish.stream, wish.include_usage, wish.details, request.private) == (True, True, True, True)
    assert (request.stop, request.max_tokens) == (("a", "b"), 7)
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.0, 0.5, 40, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (-1.0, 2.0, 1.1)
    assert sampling.seed == 2**63 - 1
    assert sampling.logit_bias == ((5, -100.0), (7, 1.5))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("functions", [{}]),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["text", "audio"]),
        ("n", 2),
        ("n", 0),
        ("mirostat", 1),
        ("temperature", 3),
        ("temperature", "hot"),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("seed", "x"),
        ("stop", ""),
        ("stop", ["a"] * 17),
        ("stop", ["a", 5]),
        ("stop", 5),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", [1]),
        ("stream", "yes"),
        ("stream_options", 5),
        ("model", 5),
        ("private", 1),
        ("messages", []),
        ("messages", "hi"),
    ],
)
def test_what_is_refused_is_named(name: str, value: object) -> None:
    with pytest.raises(BadParameter) as caught:
        read_chat({**HI, name: value})
    assert caught.value.param == name
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False},
        {"tools": None, "temperature": None, "stop": None, "seed": None, "anything": None, "max_tokens": None},
    ],
)
def test_what_asks_for_nothing_is_passed_over(extra: JsonObject) -> None:
    assert read_chat({**HI, **extra}).request.messages == (ChatMessage("user", "hi"),)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("hi", "messages[0]"),
        ({"role": "tool", "content": "x"}, "messages[0].role"),
        ({"role": ["user"], "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}, "messages[0].content[1]"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[0].tool_calls"),
    ],
)
def test_bad_messages_are_named_by_place(message: object, param: str) -> None:
    with pytest.raises(BadParameter) as caught:
        read_chat({"messages": [message]})
    assert caught.value.param == param


def test_messages_in_all_accepted_forms() -> None:
    body = {
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None, "audio": None},
        ]
    }
    assert read_chat(body).request.messages == (
        ChatMessage("system", "be brief"),
        ChatMessage("user", "ab"),
        ChatMessage("assistant", "c"),
    )


def test_completions_take_one_prompt() -> None:
    request = read_completion({"prompt": ["Once"], "best_of": 1, "echo": False}).request
    assert (request.prompt, request.messages, request.max_tokens) == ("Once", (), COMPLETION_TOKENS)
    for prompt in (None, 5, ["a", "b"], [1, 2], [[1]]):
        with pytest.raises(BadParameter):
            read_completion({"prompt": prompt})
    with pytest.raises(BadParameter):
        read_completion({"prompt": "x", "messages": []})
