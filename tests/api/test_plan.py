"""The routes of `plan` and `config`: what they pass on, and what they refuse."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peerinfer.api.actions import PlanWish
from peerinfer.api.client import ApiClient
from peerinfer.api.record import DaemonRecord, write_record
from peerinfer.errors import BadParameter, UnknownModel
from tests.api.conftest import TOKEN, Api


@pytest.fixture
async def client(api: Api, tmp_path: Path) -> AsyncIterator[ApiClient]:
    (tmp_path / "token").write_text(TOKEN)
    write_record(tmp_path, DaemonRecord(os.getpid(), api.server.address, api.node.id, "0.1.0"))
    async with ApiClient(tmp_path) as made:
        yield made


async def test_a_plan_is_asked_for_as_wished(api: Api, client: ApiClient) -> None:
    api.node.plan_answer = {"summary": "desk holds it whole.", "infeasible": None}
    assert await client.act("plan", {"model": "m"}) == api.node.plan_answer
    asked: dict[str, Any] = {"model": "m", "context": 8, "slots": 2, "policy": "spread", "min_nodes": 3}
    await client.act("plan", {**asked, "without": ["lap", "old"]})
    assert api.node.plans == [PlanWish("m"), PlanWish("m", 8, 2, "spread", 3, ("lap", "old"))]
    api.node.load_error = UnknownModel("There is no model m.")
    with pytest.raises(UnknownModel):
        await client.act("plan", {"model": "m"})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": "m", "context": 0},
        {"model": "m", "policy": "best"},
        {"model": "m", "without": "lap"},
        {"model": "m", "without": [3]},
        {"model": "m", "without": [""]},
        {"model": "m", "without": ["x" * 300]},
        {"model": "m", "without": ["x"] * 2000},
    ],
)
async def test_a_plan_that_nobody_can_mean_is_refused(api: Api, client: ApiClient, body: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        await client.act("plan", body)
    assert api.node.plans == []


async def test_settings_are_shown_and_set(client: ApiClient) -> None:
    assert (await client.act("config", {}))["exclude"] is False
    assert (await client.act("config", {"key": "memory-limit", "value": "8GB"}))["memory-limit"] == 8_000_000_000
    for bad in ({"key": "exclude", "value": "x"}, {"key": "exclude", "value": 1}, {"key": 7}, {"key": "k" * 300}):
        with pytest.raises(BadParameter):
            await client.act("config", bad)


@pytest.mark.parametrize("action", ["plan", "config"])
async def test_both_want_the_token(api: Api, action: str) -> None:
    async with api.session.post(f"/peerinfer/admin/{action}", json={"model": "m"}) as response:
        assert response.status == 401
    assert api.node.plans == []
