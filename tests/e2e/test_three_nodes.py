"""Three daemons, one model split over them: the OpenAI client, concurrency, dropped clients, killed engines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any

import openai
import psutil
import pytest

from peerinfer.api.client import ApiClient
from peerinfer.control.apply import apply
from peerinfer.control.state import ClusterState
from tests.e2e.daemons import Daemon, house
from tests.tiny import write_tiny_llama

MODEL = "tiny"
PROMPTS = ["hello", "a longer question about many things " * 4, "x", "why is the sky blue", "1 2 3", "the end " * 9]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[Daemon]]:
    folder = tmp_path_factory.mktemp("house")
    model = write_tiny_llama(folder / "tiny.gguf", layers=6)
    made: list[Daemon] = []
    try:
        made = house(folder, ["kitchen", "office", "attic"], [model])
        made[1].verb("load", MODEL, "--min-nodes", "3", "--context", "512")
        yield made
    finally:
        for daemon in made:
            daemon.stop()


def client_of(daemon: Daemon) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=daemon.api + "/v1", api_key="unused", max_retries=0)


async def ask(daemon: Daemon, prompt: str, max_tokens: int, **more: Any) -> tuple[str, list[int], str]:
    """Text, token ids and finish reason of a greedy answer."""
    async with client_of(daemon) as client:
        done = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            temperature=0,
            extra_body={"peerinfer": True},
            **more,
        )
    facts: dict[str, Any] = (done.model_extra or {})["peerinfer"]
    assert done.usage is not None
    assert done.usage.completion_tokens == len(facts["token_ids"])
    return done.choices[0].message.content or "", facts["token_ids"], done.choices[0].finish_reason


def test_the_model_runs_on_all_three(daemons: list[Daemon]) -> None:
    state = daemons[2].until("it is ready", lambda state: state["instances"])
    (instance,) = state["instances"]
    assert {stage["node"] for stage in instance["stages"]} == {member["id"] for member in state["members"]}
    bounds = [layer for stage in instance["stages"] for layer in stage["layers"]]
    assert bounds[0] == 0
    assert bounds[-1] == 6
    assert bounds[1:-1:2] == bounds[2::2]


async def test_every_gateway_gives_the_same_answer_and_many_at_once_equal_one_alone(daemons: list[Daemon]) -> None:
    alone = [await ask(daemons[0], prompt, 6 + 5 * number) for number, prompt in enumerate(PROMPTS)]
    together = await asyncio.gather(
        *(ask(daemons[number % 3], prompt, 6 + 5 * number) for number, prompt in enumerate(PROMPTS))
    )
    assert together == alone
    assert len({tuple(ids) for _, ids, _ in alone}) == len(PROMPTS)
    for daemon in daemons[1:]:
        assert await ask(daemon, PROMPTS[0], 6) == alone[0]


async def test_streams_stop_at_strings_and_count_usage(daemons: list[Daemon]) -> None:
    whole, _, _ = await ask(daemons[0], "hello", 40)
    stop = whole[10:13]
    async with client_of(daemons[1]) as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=40,
            temperature=0,
            stop=[stop],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole[: whole.index(stop)]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_seeds_give_the_same_chance_at_every_gateway(daemons: list[Daemon]) -> None:
    async def drawn(daemon: Daemon, seed: int) -> str:
        async with client_of(daemon) as client:
            done = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=20, temperature=1.5, seed=seed
            )
        return done.choices[0].message.content or ""

    assert await drawn(daemons[0], 7) == await drawn(daemons[2], 7) != await drawn(daemons[1], 8)


async def test_clients_that_drop_free_their_slots(daemons: list[Daemon]) -> None:
    async def drop(daemon: Daemon) -> None:
        async with client_of(daemon) as client:
            stream = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=450, temperature=0, stream=True
            )
            async for _ in stream:
                await stream.close()
                return

    await asyncio.gather(*(drop(daemons[number % 3]) for number in range(8)))
    async with asyncio.timeout(30):
        await asyncio.gather(*(ask(daemon, "hello", 4) for daemon in daemons))


async def test_errors_have_openais_shape_and_the_right_status(daemons: list[Daemon]) -> None:
    async with client_of(daemons[0]) as client:
        with pytest.raises(openai.NotFoundError, match="no-such-model"):
            await client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "x"}])
        with pytest.raises(openai.APIStatusError) as beyond:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 900}])
        assert beyond.value.status_code == 413
        with pytest.raises(openai.BadRequestError, match="tools"):
            await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "x"}],
                tools=[{"type": "function", "function": {"name": "f"}}],
            )


async def test_a_private_request_is_refused_where_the_model_is_split(daemons: list[Daemon]) -> None:
    with pytest.raises(openai.APIStatusError, match="private"):
        async with client_of(daemons[0]) as client:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "x"}], extra_body={"private": True}
            )


def engines_of(daemon: Daemon) -> list[psutil.Process]:
    """The stage processes of a daemon."""
    children = psutil.Process(daemon.pid).children()
    return [child for child in children if "peerinfer.engine.worker" in child.cmdline()]


async def test_a_killed_engine_fails_its_request_and_the_next_works(daemons: list[Daemon]) -> None:
    before = await ask(daemons[0], "hello", 8)
    for engine in engines_of(daemons[1]):  # two for a while if a leader changed while it loaded
        engine.suspend()  # so that the answer is under way, however busy this machine is
    async with client_of(daemons[0]) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=450, temperature=0, stream=True
        )
        for engine in engines_of(daemons[1]):
            engine.kill()
        with pytest.raises(openai.APIError, match="again"):
            assert [piece async for piece in stream] == []
    assert await ask(daemons[2], "hello", 8) == before
    assert all(psutil.pid_exists(daemon.pid) for daemon in daemons)


def test_stages_that_a_person_fixes_are_checked_and_obeyed(daemons: list[Daemon]) -> None:
    kitchen = daemons[0]
    sentence = kitchen.verb("load", MODEL, "--stages", "kitchen:0-2,office:3-6", code=1)
    assert "2" in sentence
    assert "3" in sentence
    loaded = kitchen.verb("load", MODEL, "--stages", "attic:0-1,kitchen:1-6", "--context", "512")
    assert [stage["layers"] for stage in loaded["stages"]] == [[0, 1], [1, 6]]
    assert [stage["name"] for stage in loaded["stages"]] == ["attic", "kitchen"]


async def test_unload_and_leave_as_their_readers_see_it(daemons: list[Daemon]) -> None:
    kitchen, _, attic = daemons
    stays: list[ClusterState] = []
    leaves: list[ClusterState] = []
    following = asyncio.create_task(follow(kitchen, stays))
    ending = asyncio.create_task(follow(attic, leaves))
    while not (stays and leaves):  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.05)
    await asyncio.to_thread(unload_and_leave, daemons)
    await asyncio.wait_for(ending, 20)  # with the mesh that the attic left
    following.cancel()
    for states in (stays, leaves):
        assert len(states[0].members) == 3
        assert states[0].instances
        assert any(not state.instances for state in states)
    assert any(len(state.members) == 2 and not state.instances for state in stays)


async def follow(daemon: Daemon, states: list[ClusterState]) -> None:
    """Gathers what a reader of the events sees, state by state, until the stream ends."""
    async with ApiClient(daemon.home) as client:
        async for news in client.events():
            states.append(news if isinstance(news, ClusterState) else apply(states[-1], news))


def unload_and_leave(daemons: list[Daemon]) -> None:
    kitchen, office, attic = daemons
    assert attic.run("unload", MODEL).returncode == 0
    kitchen.until("nothing is loaded", lambda state: not state["instances"])
    deadline = time.monotonic() + 20
    while any(engines_of(daemon) for daemon in daemons):
        assert time.monotonic() < deadline, "an engine stays"
        time.sleep(0.1)
    assert attic.run("leave").returncode == 0
    kitchen.until("the attic has left", lambda state: len(state["members"]) == 2)
    assert len(attic.verb("status")["members"]) == 1
    assert office.run("remove", "kitchen").returncode == 0
    office.until("it is alone", lambda state: len(state["members"]) == 1)
