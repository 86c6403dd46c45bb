"""The admin routes and the client that calls them, over a real server and a real home folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerinfer.api.actions import Asking, LoadWish
from peerinfer.api.client import ApiClient
from peerinfer.api.record import DaemonRecord, write_record
from peerinfer.api.replies import JsonObject
from peerinfer.errors import (
    BadParameter,
    DaemonAbsent,
    DiskFull,
    InviteExpired,
    NoPlacement,
    PairingError,
    PeerinferError,
    RequestError,
    StageLost,
    UnknownModel,
    WrongDigits,
)
from tests.api.conftest import TOKEN, Api
from tests.api.fakes import MODEL, Script, eventually


@pytest.fixture
def home(api: Api, tmp_path: Path) -> Path:
    """The home of the daemon that the fixture `api` stands for."""
    (tmp_path / "token").write_text(TOKEN)
    write_record(tmp_path, DaemonRecord(os.getpid(), api.server.address, api.node.id, "0.1.0"))
    return tmp_path


@pytest.fixture
async def client(home: Path) -> AsyncIterator[ApiClient]:
    async with ApiClient(home) as made:
        yield made


async def _all(lines: AsyncIterator[JsonObject]) -> list[JsonObject]:
    return [line async for line in lines]


async def test_a_pull_tells_its_progress_and_its_end(api: Api, client: ApiClient) -> None:
    lines = await _all(client.follow("pull", {"reference": "hf:owner/big"}))
    assert lines[0]["progress"] == {
        "text": "Pulling big.gguf of 2.00 GB",
        "share": 0.25,
        "file": "big.gguf",
        "done_bytes": 500_000_000,
        "total_bytes": 2_000_000_000,
    }
    assert lines[-1]["result"]["source"] == "hf:owner/big"
    api.node.load_error = DiskFull("The disk is full.")
    with pytest.raises(DiskFull):
        await _all(client.follow("pull", {"reference": "hf:owner/big"}))
    with pytest.raises(BadParameter, match="reference"):
        await _all(client.follow("pull", {}))


async def test_a_pull_ends_when_its_client_goes_away(api: Api, home: Path) -> None:
    api.node.slow_load = True
    async with ApiClient(home) as leaving:
        async for line in leaving.follow("pull", {"reference": "hf:owner/big"}):
            assert "progress" in line
            break
    await eventually(lambda: api.node.given_up == ["hf:owner/big"])


async def test_an_import_tells_its_progress_and_its_end(api: Api, client: ApiClient) -> None:
    lines = await _all(client.follow("import", {"folder": "/models/big", "name": "small"}))
    assert lines[0]["progress"]["share"] == 0.25
    assert lines[-1]["result"]["model"] == "small"
    assert api.node.imports == [("/models/big", "small")]
    with pytest.raises(BadParameter, match="folder"):
        await _all(client.follow("import", {"name": "small"}))
    with pytest.raises(BadParameter, match="name"):
        await _all(client.follow("import", {"folder": "/models/big", "name": "x" * 300}))


async def test_a_loaded_model_is_not_removed(api: Api, client: ApiClient) -> None:
    with pytest.raises(RequestError, match="peerinfer unload"):
        await client.act("rm", {"model": MODEL})
    assert (await client.act("rm", {"model": "big"}))["freed_bytes"] > 0


async def test_short_actions(api: Api, client: ApiClient) -> None:
    assert (await client.state())["node"]["name"] == "desk"
    assert await client.loaded() == [MODEL]
    models = (await client.act("models"))["models"]
    assert [(model["name"], bool(model["problem"])) for model in models] == [(MODEL, False), ("torn", True)]
    assert await client.act("remove", {"node": "lap"}) == {"node": "dd" * 16, "name": "lap"}
    assert await client.act("leave") == {"mesh": "ee" * 16}
    assert await client.act("unload", {"model": MODEL}) == {"model": MODEL}
    with pytest.raises(UnknownModel, match="is not loaded"):
        await client.act("unload", {"model": MODEL})
    assert await client.act("down") == {"stopping": True}
    assert api.node.stopping.is_set()


async def test_load_tells_its_progress_and_its_end(api: Api, client: ApiClient) -> None:
    body = {"model": "new", "context": 512, "slots": 2, "policy": "spread", "min_nodes": 2, "stages": [["desk", 0, 30]]}
    lines = await _all(client.follow("load", body))
    assert lines[0]["progress"].items() >= {"text": "writing shards", "share": 0.5}.items()
    assert lines[-1]["result"]["model"] == "new"
    assert api.node.loads == [LoadWish("new", 512, 2, "spread", 2, (("desk", 0, 30),))]


async def test_a_load_that_fails_raises_its_own_error(api: Api, client: ApiClient) -> None:
    api.node.load_error = NoPlacement("300 MB are missing.")
    with pytest.raises(NoPlacement, match="300 MB are missing"):
        await _all(client.follow("load", {"model": "big"}))


async def test_a_load_goes_on_without_its_client(api: Api, client: ApiClient) -> None:
    api.node.slow_load = True
    async for line in client.follow("load", {"model": "slow"}):
        assert "progress" in line
        break
    await asyncio.sleep(0.05)  # the server hears that the connection is gone
    api.node.release.set()
    await eventually(lambda: "slow" in api.node.loaded)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": " "},
        {"model": "m", "policy": "fast"},
        {"model": "m", "context": 0},
        {"model": "m", "slots": "many"},
        {"model": "m", "min_nodes": 0},
        {"model": "m", "stages": "a:0-1"},
        {"model": "m", "stages": [["a", 5, 5]]},
        {"model": "m", "stages": [["a", 0]]},
        {"model": "m", "stages": [["", 0, 5]]},
    ],
)
async def test_bad_loads_are_refused_before_they_start(api: Api, client: ApiClient, body: JsonObject) -> None:
    with pytest.raises(BadParameter):
        await _all(client.follow("load", body))
    assert api.node.loads == []


async def test_invite_without_waiting_leaves_the_window_open(api: Api, client: ApiClient) -> None:
    window = await client.act("invite")
    assert window["code"] == "482913"
    assert set(window) == {"code", "uri", "port", "expires_s"}
    assert api.node.window_open


async def test_invite_tells_the_window_then_who_joined(api: Api, client: ApiClient) -> None:
    lines: list[JsonObject] = []
    async for line in client.follow("invite", {"wait": True}):
        lines.append(line)
        api.node.joiner.set()
    assert lines[0]["progress"]["port"] == 9999
    assert lines[1] == {"result": {"node": "dd" * 16, "name": "lap"}}
    assert not api.node.window_open


async def test_who_asks_to_come_in_is_told_and_answered(api: Api, client: ApiClient) -> None:
    first, second = Asking("dd" * 16, "lap"), Asking("ee" * 16, "")
    api.node.asking = [first, second, None]
    told: list[JsonObject] = []
    async for line in client.follow("invite", {"wait": True, "confirm": True}):
        told.append(line)
        asking = line.get("progress", {}).get("asking")
        if asking == {"node": first.node, "name": "lap"}:
            no = await client.act("answer", {"node": first.node, "accept": False})
            assert no == {"node": first.node, "name": "lap", "accepted": False}
            api.node.joiner.set()
    assert api.node.confirm
    assert api.node.answers == [(first.node, False)]
    window, _, asked, withdrawn, joined = told
    assert asked == {"progress": {"asking": {"node": second.node, "name": ""}}}
    assert withdrawn["progress"].pop("withdrawn") == {"node": second.node, "name": ""}
    assert withdrawn["progress"].pop("expires_s") <= window["progress"].pop("expires_s")
    assert withdrawn == window
    assert "result" in joined
    with pytest.raises(PairingError, match="does not wait"):
        await client.act("answer", {"node": "ff" * 16, "accept": True})


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("invite", {"confirm": True}),
        ("invite", {"wait": True, "confirm": "yes"}),
        ("answer", {"accept": True}),
        ("answer", {"node": "dd" * 16}),
        ("answer", {"node": "dd" * 16, "accept": "yes"}),
    ],
)
async def test_an_answer_is_never_guessed(api: Api, client: ApiClient, action: str, body: JsonObject) -> None:
    with pytest.raises(BadParameter):
        await client.act(action, body)
    assert (api.node.window_open, api.node.answers) == (False, [])


async def test_a_join_ends_when_its_client_goes_away(api: Api, home: Path) -> None:
    api.node.slow_load = True
    async with ApiClient(home) as leaving:
        async for line in leaving.follow("join", {"code": "482913", "host": "127.0.0.1:9"}):
            assert "progress" in line
            break
    await eventually(lambda: api.node.given_up == ["482913"])


async def test_the_window_closes_with_the_client_that_waits(api: Api, client: ApiClient) -> None:
    async for _ in client.follow("invite", {"wait": True}):
        assert api.node.window_open
        break
    await eventually(lambda: not api.node.window_open)


async def test_pairing_errors_keep_their_class(api: Api, client: ApiClient) -> None:
    api.node.invite_expires = True
    with pytest.raises(InviteExpired):
        await _all(client.follow("invite", {"wait": True}))
    with pytest.raises(WrongDigits):
        await _all(client.follow("join", {"code": "000-000", "host": "127.0.0.1:9"}))
    lines = await _all(client.follow("join", {"code": "482913", "host": "127.0.0.1:9"}))
    assert lines[-1]["result"] == {"mesh": "bb" * 16, "node": "aa" * 16, "name": "desk"}


async def test_chat_chunks(api: Api, client: ApiClient) -> None:
    ask = {"messages": [{"role": "user", "content": "hi"}], "peerinfer": True}
    chunks = await _all(client.chat(ask))
    assert chunks[-1]["peerinfer"]["token_ids"] == [100, 101, 102]
    api.chat.script = Script(error=StageLost("A stage was lost."))
    with pytest.raises(StageLost):
        await _all(client.chat(ask))


async def test_an_unknown_error_code_is_still_an_error(api: Api, client: ApiClient) -> None:
    with pytest.raises(PeerinferError, match="There is nothing at"):
        await client.act("fly")


def test_without_a_daemon_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DaemonAbsent, match="peerinfer up"):
        ApiClient(tmp_path)


async def test_a_record_whose_port_is_silent(home: Path, unused_port: int) -> None:
    write_record(home, DaemonRecord(os.getpid(), f"127.0.0.1:{unused_port}", "", ""))
    async with ApiClient(home) as client:
        with pytest.raises(DaemonAbsent, match="peerinfer up"):
            await client.state()


async def test_a_wrong_token_is_refused(home: Path) -> None:
    (home / "token").write_text("00" * 32)
    async with ApiClient(home) as client:
        with pytest.raises(PeerinferError, match="Authorization"):
            await client.act("down")
