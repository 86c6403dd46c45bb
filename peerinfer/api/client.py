"""The API as the command line and the terminal interface call it: finds the daemon by its home, brings the token."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from peerinfer.api.feed import Feed
from peerinfer.api.guard import ADMIN_PREFIX
from peerinfer.api.record import DaemonRecord, read_record, read_token
from peerinfer.api.replies import JsonObject
from peerinfer.control.events import ClusterEvent
from peerinfer.control.state import ClusterState
from peerinfer.errors import DaemonAbsent, PeerinferError, error_from_code

CALL_S = 60.0
"""A short call to the daemon on this machine; only a daemon in trouble takes longer."""
CONNECT_S = 5.0
"""For a connection on this machine."""
LINE_MAX_BYTES = 4 * 1024 * 1024
"""One line of an answer; the longest holds the token ids of a whole context."""
SILENCE_S = 45.0
"""Three of the signs of life that stand between events: a daemon that is silent for longer stands still."""


class ApiClient:
    """Calls to one daemon. Use as `async with ApiClient(home)`; every call raises what the daemon raised."""

    def __init__(self, home: Path) -> None:
        """Raises `DaemonAbsent` if no daemon runs on `home`."""
        self.record: DaemonRecord = read_record(home)
        self._token = read_token(home)
        self._home = home
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ApiClient:
        self._session = aiohttp.ClientSession(
            f"http://{self.record.api}",
            headers={"Authorization": f"Bearer {self._token}"},
            read_bufsize=LINE_MAX_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def state(self) -> JsonObject:
        """The object of `peerinfer status --json`."""
        return await self._call("GET", "/peerinfer/state", None)

    async def loaded(self) -> list[str]:
        """Names of the models that can be chatted with."""
        return [model["id"] for model in (await self._call("GET", "/v1/models", None))["data"]]

    async def act(self, action: str, body: JsonObject | None = None) -> JsonObject:
        """One short admin action: `unload`, `plan`, `config`, `invite`, `remove`, `leave`, `models` or `down`."""
        return await self._call("POST", ADMIN_PREFIX + action, body or {})

    async def follow(self, action: str, body: JsonObject) -> AsyncGenerator[JsonObject]:
        """A long admin action: `{"progress": {...}}` as it comes, then `{"result": {...}}`."""
        async with self._request("POST", ADMIN_PREFIX + action, body) as response:
            async for line in response.content:
                message = _object(line)
                if "error" in message:
                    raise _error(message, response.status)
                yield message
                if "result" in message:
                    return
        raise DaemonAbsent("The daemon broke off: look into its log.")

    async def chat(self, body: JsonObject) -> AsyncGenerator[JsonObject]:
        """The chunks of a streamed answer, as OpenAI shapes them."""
        async with self._request("POST", "/v1/chat/completions", {**body, "stream": True}) as response:
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if line.strip() == b"data: [DONE]":
                    return
                chunk = _object(line[6:])
                if "error" in chunk:
                    raise _error(chunk, response.status)
                yield chunk
        raise DaemonAbsent("The answer broke off without an end: look into the daemon's log.")

    async def events(self) -> AsyncGenerator[ClusterState | ClusterEvent]:
        """The state of the mesh, then each event to fold into it with `apply`; none is missing.

        Ends when the daemon stops or goes to another mesh. Raises `DaemonAbsent` if the connection breaks, as it does
        for a reader that is too slow; `Unavailable` if there are too many readers; `BadFrame` for what no daemon says.
        Whoever wants to go on asks again, and gets a state first.
        """
        feed = Feed()
        async with self._request("GET", "/peerinfer/events", None, silence_s=SILENCE_S) as response:
            async for line in response.content:
                if (news := feed.take(line)) is not None:
                    yield news

    async def _call(self, method: str, path: str, body: JsonObject | None) -> JsonObject:
        try:
            async with asyncio.timeout(CALL_S), self._request(method, path, body) as response:
                return _object(await response.read())
        except TimeoutError:
            raise DaemonAbsent(f"The daemon on {self._home} does not answer: look into its log.") from None

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, body: JsonObject | None, *, silence_s: float | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """`silence_s` is how long nothing may come."""
        if self._session is None:
            raise RuntimeError("ApiClient is used outside of `async with`")
        try:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
            async with self._session.request(method, path, json=body, timeout=timeout) as response:
                if response.status >= 400:
                    raise _error(_object(await response.read()), response.status)
                yield response
        except aiohttp.ClientConnectorError:
            raise DaemonAbsent(
                f"No peerinfer daemon answers at {self.record.api}. Start one with `peerinfer up`."
            ) from None
        except LineTooLong:
            raise DaemonAbsent("Something that is not peerinfer answers at the API's address.") from None
        except aiohttp.ClientError as error:
            raise DaemonAbsent(f"The connection to the daemon broke: {error}.") from None


def _object(raw: bytes) -> JsonObject:
    try:
        value: Any = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DaemonAbsent("Something that is not peerinfer answers at the API's address.")
    return cast(JsonObject, value)


def _error(body: JsonObject, status: int) -> PeerinferError:
    fields: Any = body.get("error")
    if not isinstance(fields, dict):
        return PeerinferError(f"The daemon answered with HTTP status {status}.")
    error = cast(JsonObject, fields)
    return error_from_code(str(error.get("code")), str(error.get("message")))
