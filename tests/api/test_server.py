"""Binding: a free port is found, a taken one is told of, an impossible one too."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from peerinfer.api.server import ApiServer
from peerinfer.config import Listen
from peerinfer.errors import ConfigInvalid, PortInUse
from tests.api.conftest import TOKEN, Api
from tests.api.fakes import FakeChat, FakeNode


def _server(listen: Listen) -> ApiServer:
    return ApiServer(listen, TOKEN, FakeChat(), FakeNode())


async def test_a_taken_port_is_told_of(api: Api) -> None:
    with pytest.raises(PortInUse, match="--api"):
        await _server(api.server.bound).start()


async def test_an_address_that_is_not_ours(unused_port: int) -> None:
    with pytest.raises(ConfigInvalid):
        await _server(Listen("192.0.2.1", unused_port)).start()
    with pytest.raises(ConfigInvalid):
        await _server(Listen("no.such.host.invalid", unused_port)).start()


async def test_a_bind_to_all_addresses_needs_the_token_and_tells_a_local_address() -> None:
    server = _server(Listen("0.0.0.0", 0))  # noqa: S104  (the case that is tested)
    await server.start()
    try:
        assert server.address == f"127.0.0.1:{server.bound.port}"
        async with aiohttp.ClientSession(f"http://{server.address}") as session:
            async with session.get("/v1/models") as response:
                assert response.status == 401
            async with session.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
                assert response.status == 200
    finally:
        await server.stop()


async def test_stop_frees_the_port_and_may_be_repeated() -> None:
    server = _server(Listen("127.0.0.1", 0))
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()
    with socket.create_server(("127.0.0.1", server.bound.port)):
        pass
