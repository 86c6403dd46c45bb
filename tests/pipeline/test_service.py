"""Whole pipelines with real engine processes: equal answers, stops, cancels, slow readers, killed engines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from peerinfer.errors import BadRequest, ContextExceeded, PeerinferError, StageLost, Unavailable
from peerinfer.pipeline.requests import ChatMessage, ChatRequest
from tests.net.mesh import until
from tests.pipeline.house import House, collect, read
from tests.tiny import write_tiny_llama


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(write_tiny_llama(tmp_path / "tiny.gguf", layers=6))


def raw(text: str, max_tokens: int | None = 12, stop: tuple[str, ...] = (), private: bool = False) -> ChatRequest:
    return ChatRequest("", (), prompt=text, max_tokens=max_tokens, stop=stop, private=private)


PROMPTS = ["hello", "a much longer prompt with many words " * 5, "x", "why is the sky blue", "1 2 3", "the end" * 9]


async def test_split_answers_equal_the_whole_models_even_when_many_run(tmp_path: Path, tiny: str) -> None:
    requests = [raw(text, 5 + 7 * number) for number, text in enumerate(PROMPTS)]
    async with House(tmp_path, tiny, 1) as house:
        alone = [await collect(house.gateways[0], request) for request in requests]
    async with House(tmp_path, tiny, 3) as house:
        together = await asyncio.gather(
            *(collect(house.gateways[number % 3], request) for number, request in enumerate(requests))
        )
        await house.until_empty()
    assert together == alone
    assert len({ids for ids, _, _ in alone}) > 3


async def test_a_conversation_goes_through_the_models_template(tmp_path: Path, tiny: str) -> None:
    async with House(tmp_path, tiny, 2) as house:
        turns = (ChatMessage("user", "hello"),)
        answer = await house.gateways[1].open(ChatRequest("", turns, max_tokens=3))
        plain = await house.gateways[1].open(raw("<user>hello\n<assistant>", 3))
        assert answer.prompt_token_ids == plain.prompt_token_ids
        assert [delta async for delta in answer] == [delta async for delta in plain]
        assert answer.ttft_ms > 0
        with pytest.raises(BadRequest, match="at least one message"):
            await house.gateways[0].open(ChatRequest("", ()))
        with pytest.raises(ContextExceeded, match="--context"):
            await house.gateways[0].open(raw("word " * 600))
        with pytest.raises(Unavailable, match="private"):
            await house.gateways[0].open(raw("hello", private=True))


async def test_a_stop_string_ends_the_answer_before_itself(tmp_path: Path, tiny: str) -> None:
    async with House(tmp_path, tiny, 2) as house:
        _, whole, _ = await collect(house.gateways[0], raw("hello", 40))
        stop = whole[6:9]
        _, text, finish = await collect(house.gateways[0], raw("hello", 40, stop=(stop,)))
        assert text == whole[: whole.index(stop)]
        assert finish == "stop"
        await house.until_empty()


async def test_clients_that_leave_or_stop_reading_free_every_slot(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peerinfer.pipeline.batcher.CREDIT_LAPSE_S", 0.6)
    async with House(tmp_path, tiny, 2) as house:
        leaving = await house.gateways[0].open(raw("hello", 400))
        async for _ in leaving:
            break
        await leaving.cancel()
        sleeping = await house.gateways[1].open(raw("hello", 400))
        await house.until_empty()
        with pytest.raises(StageLost, match="not read"):
            await read(sleeping, 0, list)
        assert len(sleeping.token_ids) < 400
        assert (await collect(house.gateways[0], raw("hello", 5)))[2] == "length"


@pytest.mark.parametrize("victim", [0, 1])
async def test_a_killed_engine_fails_its_request_and_serves_the_next(tmp_path: Path, tiny: str, victim: int) -> None:
    async with House(tmp_path, tiny, 2) as house:
        expected = await collect(house.gateways[0], raw("hello", 10))
        runner = house.pipelines[victim].runner(house.instance.id, house.instance.epoch)
        assert runner is not None
        engine = psutil.Process(runner.pid)
        engine.suspend()  # so that the answer is under way, however busy this machine is
        answer = await house.gateways[0].open(raw("hello", 400))
        await until(lambda: runner._running)  # a step is in it; one that waits outside would go to its heir
        engine.kill()
        with pytest.raises(PeerinferError, match="again") as caught:
            await read(answer, 0, list)
        assert caught.value.retryable
        assert await collect(house.gateways[1], raw("hello", 10)) == expected
        await house.until_empty()


async def test_a_lost_machine_breaks_its_answers_off_at_once(tmp_path: Path, tiny: str) -> None:
    async with House(tmp_path, tiny, 3) as house:
        answer = await house.gateways[0].open(raw("hello", 400))
        with pytest.raises(StageLost):
            await read(answer, 3, house.boards[1].cut)
        assert house.pipelines[0].active_slots() == {house.instance.id: 0}


async def test_an_instance_that_is_dropped_tells_its_requests(tmp_path: Path, tiny: str) -> None:
    async with House(tmp_path, tiny, 1) as house:
        answer = await house.gateways[0].open(raw("hello", 400))
        with pytest.raises(StageLost, match="moved or unloaded"):
            await read(answer, 1, lambda: house.pipelines[0].drop(house.instance.id, house.instance.epoch))
        with pytest.raises(StageLost):
            await collect(house.gateways[0], raw("hello", 5))
