"""The guard stands before every route: known, unknown, admin or not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from peerinfer.api.guard import Guard, is_loopback
from peerinfer.config import Listen
from tests.api.conftest import TOKEN, Api

ROUTES = ("/", "/v1/models", "/peerinfer/state", "/peerinfer/events", "/peerinfer/admin/down", "/no/such/route")


async def _error(api: Api, method: str, path: str, **options: Any) -> tuple[int, str]:
    async with api.session.request(method, path, **options) as response:
        body = await response.json()
        assert set(body["error"]) == {"message", "type", "param", "code", "retryable"}
        assert "Access-Control-Allow-Origin" not in response.headers
        return response.status, body["error"]["code"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1:1", "desk.local:{port}", "127.0.0.1.:{port}"])
async def test_foreign_host_is_misdirected(api: Api, path: str, host: str) -> None:
    headers = {"Host": host.format(port=api.server.bound.port)}
    assert await _error(api, "GET", path, headers=headers) == (421, "wrong_host")


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
async def test_own_hosts_pass(api: Api, host: str) -> None:
    headers = {"Host": host.format(port=api.server.bound.port)}
    async with api.session.get("/peerinfer/state", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
async def test_foreign_origin_is_forbidden(api: Api, path: str, origin: str) -> None:
    assert await _error(api, "GET", path, headers={"Origin": origin}) == (403, "foreign_origin")


async def test_own_origin_passes(api: Api) -> None:
    async with api.session.get("/v1/models", headers={"Origin": api.url, "Sec-Fetch-Site": "same-origin"}) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ROUTES)
async def test_cross_site_is_forbidden(api: Api, path: str) -> None:
    assert await _error(api, "GET", path, headers={"Sec-Fetch-Site": "cross-site"}) == (403, "cross_site")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/peerinfer/admin/load", "/no/such/route"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_form_cannot_post(api: Api, path: str, kind: str) -> None:
    headers = {"Content-Type": kind, **api.bearer}
    assert await _error(api, "POST", path, data=b"{}", headers=headers) == (415, "not_json")


async def test_checks_come_in_order(api: Api) -> None:
    wrong = {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    path, body = "/peerinfer/admin/down", {"data": b"", "headers": wrong}
    seen: list[int] = []
    for repair in ("Host", "Origin", "Sec-Fetch-Site", "Content-Type"):
        seen.append((await _error(api, "POST", path, **body))[0])
        wrong.pop(repair, None)
        if repair == "Content-Type":
            break
    wrong["Content-Type"] = "application/json"
    seen.append((await _error(api, "POST", path, **body))[0])
    assert seen == [421, 403, 403, 415, 401]


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer nope", f"Basic {TOKEN}", TOKEN, "Bearer \u00e9"])
@pytest.mark.parametrize("path", ["/peerinfer/admin/down", "/peerinfer/admin/no-such"])
async def test_admin_needs_the_token(api: Api, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    assert await _error(api, "POST", path, json={}, headers=headers) == (401, "token_missing")
    assert not api.node.stopping.is_set()


async def test_admin_passes_with_the_token(api: Api) -> None:
    async with api.session.post("/peerinfer/admin/down", json={}, headers=api.bearer) as response:
        assert (response.status, await response.json()) == (200, {"stopping": True})
    assert api.node.stopping.is_set()


async def test_unknown_routes_and_methods(api: Api) -> None:
    assert await _error(api, "GET", "/no/such/route") == (404, "not_found")
    assert await _error(api, "GET", "/v1/chat/completions") == (405, "method_not_allowed")
    assert await _error(api, "OPTIONS", "/v1/chat/completions") == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("192.0.2.7", False), ("::", False)],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


async def test_beyond_loopback_every_route_needs_the_token() -> None:
    guard = Guard(Listen("192.0.2.7", 8642), TOKEN, hosts=["ai.example:443"])

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def status(host: str, **headers: str) -> int:
        request = make_mocked_request("GET", "/v1/models", headers={"Host": host, **headers})
        return (await guard.middleware(request, handler)).status

    assert await status("192.0.2.7:8642") == 401
    assert await status("192.0.2.7:8642", Authorization=f"Bearer {TOKEN}") == 200
    assert await status("ai.example:443", Authorization=f"Bearer {TOKEN}") == 200
    assert await status("ai.example:444", Authorization=f"Bearer {TOKEN}") == 421


async def test_too_many_requests_at_once_are_sent_away() -> None:
    guard = Guard(Listen("127.0.0.1", 8642), TOKEN, requests_max=2)
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(text="ok")

    def ask() -> asyncio.Future[web.StreamResponse]:
        request = make_mocked_request("GET", "/", headers={"Host": "127.0.0.1:8642"})
        return asyncio.ensure_future(guard.middleware(request, handler))

    waiting = [ask(), ask()]
    await asyncio.sleep(0)
    refused = await ask()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    release.set()
    assert [(await each).status for each in waiting] == [200, 200]
    assert (await ask()).status == 200
