"""The OpenAI routes: by OpenAI's own client, and byte by byte where that hides something."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from peerinfer.errors import ContextExceeded, NoPlacement, PeerinferError, QueueFull, StageLost
from tests.api.conftest import TOKEN, Api
from tests.api.fakes import MODEL, PROMPT_TOKENS, Script, eventually

TEXT = "Hello \u00e4\u2028\U0001f600"
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def client(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


async def test_whole_answer(api: Api, client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(**ASK, extra_body={"peerinfer": True})
    assert reply.choices[0].message.content == TEXT
    assert (reply.choices[0].finish_reason, reply.model, reply.object) == ("stop", MODEL, "chat.completion")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (3, 3, 6)
    assert reply.model_extra == {
        "peerinfer": {
            "prompt_token_ids": list(PROMPT_TOKENS),
            "token_ids": [100, 101, 102],
            "ttft_ms": 12.5,
            "tokens_per_s": 80.0,
        }
    }
    assert api.chat.answers[0].cancelled.is_set()


async def test_streamed_answer(api: Api, client: openai.AsyncOpenAI) -> None:
    api.chat.script = Script(finish="length")
    stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert [delta.content for delta in deltas[1:-1]] == list(api.chat.script.pieces)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None] * 4 + ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6
    assert len({chunk.id for chunk in chunks}) == 1
    assert api.chat.answers[0].cancelled.is_set()


async def test_stream_carries_details_in_its_last_chunk(api: Api, client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**ASK, stream=True, extra_body={"peerinfer": True})
    extras = [chunk.model_extra for chunk in [chunk async for chunk in stream] if chunk.model_extra]
    assert [extra["peerinfer"]["token_ids"] for extra in extras] == [[100, 101, 102]]


@pytest.mark.parametrize("text", ['"@"', '{"', "\n\ndata: [DONE]\n\n", "\ud83d", "\x00\u2029"])
async def test_no_text_breaks_the_framing(api: Api, text: str) -> None:
    api.chat.script = Script(pieces=(text, "", text))
    async with api.session.post("/v1/chat/completions", json={**ASK, "stream": True}) as response:
        events = (await response.read()).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", text, text, None]


async def test_completions(api: Api, client: openai.AsyncOpenAI) -> None:
    reply = await client.completions.create(model=MODEL, prompt="Once")
    assert (reply.choices[0].text, reply.object) == (TEXT, "text_completion")
    stream = await client.completions.create(model=MODEL, prompt="Once", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == TEXT
    assert api.chat.requests[0].prompt == "Once"


async def test_models(api: Api, client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in await client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).owned_by == "peerinfer"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("torn")
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="other", messages=[{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "status", "waits"),
    [
        (ContextExceeded("Too long."), 413, False),
        (QueueFull("Full."), 429, True),
        (NoPlacement("No room."), 503, False),
        (StageLost("Lost."), 503, True),
    ],
)
async def test_refusals_have_their_status(
    api: Api, refusal: PeerinferError, status: int, waits: bool, stream: bool
) -> None:
    api.chat.script = Script(refusal=refusal)
    async with api.session.post("/v1/chat/completions", json={**ASK, "stream": stream}) as response:
        assert (response.status, "Retry-After" in response.headers) == (status, waits)
        error = (await response.json())["error"]
    assert (error["message"], error["code"], error["retryable"]) == (str(refusal), refusal.code, waits)


async def test_unsupported_parameter_is_named(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**ASK, tools=[{"type": "function", "function": {"name": "f"}}])
    assert caught.value.param == "tools"
    assert caught.value.type == "invalid_request_error"


async def test_malformed_json_is_a_sentence(api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    async with api.session.post("/v1/chat/completions", data=b'{"model"', headers=headers) as response:
        assert response.status == 400
        assert "not valid JSON" in (await response.json())["error"]["message"]


async def test_a_break_in_a_stream_is_told_and_has_no_done(api: Api, client: openai.AsyncOpenAI) -> None:
    api.chat.script = Script(error=StageLost("A stage was lost: send the request again."))
    async with api.session.post("/v1/chat/completions", json={**ASK, "stream": True}) as response:
        raw = (await response.read()).decode()
    last = json.loads(raw.strip().split("\n\n")[-1].removeprefix("data: "))
    assert (last["error"]["code"], last["error"]["retryable"]) == ("stage_lost", True)
    assert "[DONE]" not in raw
    with pytest.raises(openai.APIError, match="A stage was lost"):
        _ = [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True)]
    assert all(answer.cancelled.is_set() for answer in api.chat.answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_an_error_without_its_text(
    api: Api, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    api.chat.script = Script(error=RuntimeError("secret detail"))
    async with api.session.post("/v1/chat/completions", json={**ASK, "stream": stream}) as response:
        raw = (await response.read()).decode()
    assert "internal_error" in raw
    assert "secret detail" not in raw
    assert "secret detail" in caplog.text


async def test_the_first_piece_does_not_wait_for_the_second(api: Api, client: openai.AsyncOpenAI) -> None:
    api.chat.script = Script(pieces=("one",), hang=True)
    stream = await client.chat.completions.create(**ASK, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content == "one":
            break
    await stream.close()
    await asyncio.wait_for(api.chat.answers[0].cancelled.wait(), 10)


async def test_closing_the_stream_cancels_the_answer(api: Api) -> None:
    api.chat.script = Script(pieces=(), hang=True)
    for stream in (True, False):
        asking = asyncio.ensure_future(_ask_for_ever(api, stream))
        await eventually(lambda count=1 if stream else 2: len(api.chat.answers) == count)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(api.chat.answers[-1].cancelled.wait(), 10)


async def _ask_for_ever(api: Api, stream: bool) -> None:
    async with api.session.post("/v1/chat/completions", json={**ASK, "stream": stream}) as response:
        await response.read()


async def test_a_client_that_stops_reading_loses_its_slot(api: Api) -> None:
    api.chat.script = Script(pieces=["word " * 200] * 100_000)
    body = json.dumps({**ASK, "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {api.server.address}\r\nContent-Type: application/json\r\n"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, (api.server.bound.host, api.server.bound.port))
        await loop.sock_sendall(deaf, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await eventually(lambda: bool(api.chat.answers))
        answer = api.chat.answers[0]
        await asyncio.wait_for(answer.cancelled.wait(), 30)
        assert len(answer.token_ids) < 2_000  # what the buffers hold, not the whole answer


async def test_a_slow_reader_gets_everything(api: Api) -> None:
    api.chat.script = Script(pieces=["word " * 200] * 400)
    received = b""
    async with api.session.post("/v1/chat/completions", json={**ASK, "stream": True}) as response:
        while part := await response.content.read(32_768):
            received += part
            await asyncio.sleep(0.005)
    assert received.count(b"word ") == 80_000
    assert received.endswith(b"data: [DONE]\n\n")
