"""The guard at the door: every request, whatever its route and bind address, passes these checks in this order.

1. `Host` is exactly one of ours, else 421: a web page cannot reach the API by DNS rebinding.
2. No foreign `Origin`, else 403.
3. Not `Sec-Fetch-Site: cross-site`, else 403.
4. What may change something is `application/json`, else 415: a web form cannot send that.
5. Admin routes, and every route of a bind beyond loopback, carry the bearer token, else 401.
6. Not more than `REQUESTS_MAX` requests at once, else 503.

There are no CORS headers: a page of another origin can never read an answer.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from peerinfer.api.replies import RETRY_AFTER_S, error_reply, reply_of
from peerinfer.config import Listen
from peerinfer.errors import PeerinferError

ADMIN_PREFIX = "/peerinfer/admin/"
REQUESTS_MAX = 256
"""Requests under way at once. Far more than the slots and queue places of any model; each holds a socket and a body."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_log = logging.getLogger(__name__)


class Guard:
    """Decides who may ask, and turns every error into a response. `middleware` goes around all routes."""

    def __init__(self, bound: Listen, token: str, hosts: Iterable[str] = (), requests_max: int = REQUESTS_MAX) -> None:
        """`bound` is the address really listened on; `hosts` are further `Host` headers to answer to."""
        self._hosts = _own_hosts(bound) | frozenset(hosts)
        self._origins = {f"{scheme}://{host}" for host in self._hosts for scheme in ("http", "https")}
        self._token = token.encode()
        self._always_token = not is_loopback(bound.host)
        self._requests_max = requests_max
        self._requests = 0

    @property
    def middleware(self) -> Middleware:
        """The check as aiohttp wants it."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refusal(request)
            return await self._pass(request, handler) if refusal is None else refusal

        return guard

    def _refusal(self, request: web.Request) -> web.Response | None:
        headers = request.headers
        hosts = headers.getall("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return error_reply(
                421, "wrong_host", "This API answers only to its own address: use http://127.0.0.1 and its port."
            )
        if any(origin.lower() not in self._origins for origin in headers.getall("Origin", [])):
            return error_reply(403, "foreign_origin", "Web pages of other origins may not use this API.")
        if "cross-site" in (site.strip().lower() for site in headers.getall("Sec-Fetch-Site", [])):
            return error_reply(403, "cross_site", "Web pages of other sites may not use this API.")
        if request.method not in _SAFE_METHODS and request.content_type != "application/json":
            return error_reply(415, "not_json", "Send JSON, with the header Content-Type: application/json.")
        if (self._always_token or request.path.startswith(ADMIN_PREFIX)) and not self._bears_token(request):
            return error_reply(
                401,
                "token_missing",
                "This needs the header Authorization: Bearer TOKEN, with the text of `token` in the home folder.",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _bears_token(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._token) and scheme.lower() == "bearer"

    async def _pass(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._requests >= self._requests_max:
            retry = {"Retry-After": str(RETRY_AFTER_S)}
            return error_reply(503, "too_many_requests", "Too many requests are under way: try again soon.", retry)
        self._requests += 1
        try:
            return await handler(request)
        except PeerinferError as error:
            return reply_of(error)
        except web.HTTPException as error:
            return _plain(error, request)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return error_reply(500, "internal_error", "Something went wrong inside peerinfer; its log says what.")
        finally:
            self._requests -= 1


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, an IP address or `localhost`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_hosts(bound: Listen) -> frozenset[str]:
    names = {Listen(name, bound.port) for name in ("127.0.0.1", "::1", "localhost")}
    if bound.host not in {"0.0.0.0", "::"}:  # noqa: S104  (compared with, not bound to)
        names.add(bound)
    texts = {str(name).lower() for name in names}
    if bound.port == 80:
        texts |= {text.removesuffix(":80") for text in texts}
    return frozenset(texts)


def _plain(error: web.HTTPException, request: web.Request) -> web.StreamResponse:
    """aiohttp's own refusals (no such route, wrong method, body too large) in the shape of all others."""
    sentences = {
        404: ("not_found", f"There is nothing at {request.path[:200]}: GET / names the routes."),
        405: ("method_not_allowed", f"{request.path[:200]} does not take {request.method[:16]}."),
        413: ("body_too_large", "The request is too large."),
    }
    code, sentence = sentences.get(error.status, ("http_error", f"The request failed: {error.reason}."))
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return error_reply(error.status, code, sentence, allow)
