"""How the API answers in one piece: JSON bodies and errors in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from peerinfer.errors import BadParameter, PeerinferError

JsonObject = dict[str, Any]
"""A JSON object as Python holds it; its keys are named in interface.md of the design, or by OpenAI."""
RETRY_AFTER_S = 1
"""What a client is told to wait when the queue is full: about the time in which a short answer ends."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def json_reply(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`body` as a JSON response that browsers neither cache nor guess a type for."""
    plain = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    text = json.dumps(body, ensure_ascii=False)
    return web.Response(
        body=text.encode("utf-8", "replace"),
        status=status,
        content_type="application/json",
        headers={**plain, **(headers or {})},
    )


def error_body(
    status: int, code: str, message: str, *, param: str | None = None, retryable: bool = False
) -> JsonObject:
    """OpenAI's error object, with `retryable` added."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code, "retryable": retryable}
    return {"error": error}


def error_reply(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal that no error class stands for."""
    return json_reply(error_body(status, code, message), status, headers)


def body_of(error: PeerinferError) -> JsonObject:
    """The error object that tells a client of `error`."""
    param = error.param if isinstance(error, BadParameter) else None
    return error_body(error.status, error.code, str(error), param=param, retryable=error.retryable)


def reply_of(error: PeerinferError) -> web.Response:
    """The response that tells a client of `error`; where a retry may succeed, it says when."""
    waits = error.retryable and error.status in {429, 503}
    return json_reply(body_of(error), error.status, {"Retry-After": str(RETRY_AFTER_S)} if waits else None)
