"""Fetches one file over HTTP into a partial file: redirects, ranges, retries, rates have limits; verified at the end.

Ranges and validators as in RFC 9110, sections 13.1.5 and 14. The digest, not the server, decides what is right.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from peerinfer.errors import AccessDenied, PeerinferError, PullFailed, UnknownModel
from peerinfer.models.atomic import check_room
from peerinfer.models.pull.partial import Partial
from peerinfer.models.pull.redirects import next_url, same_origin
from peerinfer.models.pull.reference import is_loopback

FILE_MAX_BYTES: Final = 1 << 40
"""1 TiB: above any model file; a server that tells more is wrong."""
RANGE_MAX_BYTES: Final = 16 << 30
"""Asked for at once: content networks refuse to send tens of gigabytes in one answer."""
USER_AGENT: Final = "peerinfer"
REASON_MAX_CHARS: Final = 160
"""Of what a library says about a connection, in our sentence."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes of the whole file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch puts up with."""

    connect_s: float = 20.0
    """Seconds until a connection stands, name look-up and TLS included."""
    read_s: float = 30.0
    """Seconds without one byte before the connection counts as dead."""
    window_s: float = 60.0
    """Seconds over which the rate is looked at."""
    least_bytes_per_s: float = 1024.0
    """Below this in a window the connection is cut: a slow drip would hold a download for ever."""
    redirects: int = 5
    """The hub needs one or two."""
    tries: int = 6
    """Attempts in a row that bring nothing new."""
    attempts: int = 1000
    """In all: a line that is cut every minute still brings a large model within a day."""
    wait_s: float = 1.0
    """Before the second try; doubled for each one after."""
    wait_max_s: float = 30.0
    retry_after_max_s: float = 120.0
    """A server that wants a longer pause is not waited for: its sentence goes to the person."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file to fetch."""

    url: str
    sha256: str
    """64 hex digits: what the file must hash to."""
    name: str
    """For messages."""
    size_bytes: int = 0
    """What is known before; 0: the server will tell."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent to the origin of `url` only, such as a token."""
    immutable: bool = False
    """What is at `url` never changes, so a range of it needs no validator."""


class Interrupted(PullFailed):
    """An attempt that failed and may be made again, after `wait_s` seconds if the server said so."""

    def __init__(self, sentence: str, wait_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


async def fetch(
    source: Source,
    partial_path: Path,
    final: Path,
    progress: Progress,
    *,
    limits: Limits = Limits(),
    tls: ssl.SSLContext | None = None,
) -> int:
    """Brings the file to `final`, going on from `partial_path` if that exists. Returns its size in bytes.

    `tls` says which certificates are trusted, Python's own choice if None.
    Cancelled or failed, it leaves the partial file to go on from. Raises `PullFailed`, `AccessDenied`, `UnknownModel`,
    `CorruptModel` (the digest is wrong), `DiskFull` or `HomeError`.
    """
    partial = Partial(partial_path)
    timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect_s, sock_read=limits.read_s)
    try:
        partial.open(lambda done: progress(done, max(done, source.size_bytes)))
        async with aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(ssl=tls or True, force_close=True),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        ) as session:
            await _Fetch(source, partial, session, folder=final.parent, progress=progress, limits=limits).run()
        partial.finish(source.sha256, final, source.name)
    finally:
        partial.close()
    return partial.size_bytes


class _Fetch:
    """The attempts of one fetch."""

    def __init__(
        self,
        source: Source,
        partial: Partial,
        session: aiohttp.ClientSession,
        *,
        folder: Path,
        progress: Progress,
        limits: Limits,
    ) -> None:
        self._source = source
        self._partial = partial
        self._session = session
        self._folder = folder
        self._progress = progress
        self._limits = limits
        self._total = source.size_bytes

    async def run(self) -> None:
        """Attempts until the whole file is there."""
        in_vain = 0
        if self._total and self._partial.size_bytes > self._total:
            self._partial.restart("")
        for _ in range(self._limits.attempts):
            if self._total and self._partial.size_bytes == self._total:
                return
            before, failure = self._partial.size_bytes, None
            try:
                await self._attempt()
            except Interrupted as error:
                failure = error
            in_vain = 0 if self._partial.size_bytes > before else in_vain + 1
            if in_vain >= self._limits.tries:
                why = failure or f"The server sends nothing of {self._source.name}."
                raise PullFailed(f"{why} What came so far is kept: pull again to go on.")
            if failure is not None or in_vain:
                await asyncio.sleep(self._wait_s(in_vain, failure.wait_s if failure else 0.0))
        raise PullFailed(f"{self._source.name} was cut off too often. What came is kept: pull again to go on.")

    def _wait_s(self, in_vain: int, asked_s: float) -> float:
        own = min(self._limits.wait_s * 2 ** max(0, in_vain - 1), self._limits.wait_max_s)
        return max(own, asked_s)

    async def _attempt(self) -> None:
        """One request, and its body as far as it comes."""
        try:
            response = await self._request()
            try:
                self._judge(response)
                await self._read(response)
            finally:
                response.close()
        except TimeoutError:
            raise Interrupted(f"{self._source.name} came to a halt: the server sent nothing for a while.") from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise PullFailed(
                f"The server of {self._source.name} cannot prove who it is ({_short(error)}). Check the address, and "
                "this machine's clock and certificates."
            ) from None
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError) as error:
            raise Interrupted(f"The connection for {self._source.name} broke ({_short(error)}).") from None

    async def _request(self) -> aiohttp.ClientResponse:
        """The answer at the end of the redirects."""
        url = start = URL(self._source.url, encoded=self._source.url.isascii())
        for _ in range(self._limits.redirects + 1):
            headers = self._range_headers() | (dict(self._source.headers) if same_origin(url, start) else {})
            response = await self._session.get(
                url, headers=headers, allow_redirects=False, proxy=_proxy(url), raise_for_status=False
            )
            if response.status not in {301, 302, 303, 307, 308}:
                return response
            location = response.headers.get("Location", "")
            response.close()
            url = next_url(url, location)
        raise PullFailed(
            f"{self._source.name} is redirected more than {self._limits.redirects} times. Check the address."
        )

    def _range_headers(self) -> dict[str, str]:
        """What to ask for: the rest, if something is there; a slice of what is too large for one answer."""
        have = self._partial.size_bytes
        left = self._total - have
        if have == 0 and left <= RANGE_MAX_BYTES:
            return {}
        last = str(have + RANGE_MAX_BYTES - 1) if left > RANGE_MAX_BYTES else ""
        etag = self._partial.etag
        needed = etag and have and not self._source.immutable
        return {"Range": f"bytes={have}-{last}"} | ({"If-Range": etag} if needed else {})

    def _judge(self, response: aiohttp.ClientResponse) -> None:
        """Makes the partial file ready for this answer's body; raises if there will be none."""
        name, status = self._source.name, response.status
        if status == 416:
            self._partial.restart("")
            raise Interrupted(f"{name} has no such range; it is fetched from the start.")
        if status not in {200, 206}:
            raise _refusal(name, status, response.headers, self._limits)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise PullFailed(f"The server sends {name} compressed, though it was asked not to. Use another source.")
        have = self._partial.size_bytes
        if status == 206:
            start, total = _content_range(name, response.headers)
            if start != have:
                self._partial.restart("")
                raise Interrupted(f"The server sent another range of {name} than was asked for.")
        else:
            total = response.content_length or 0
        self._expect(total)
        if status == 200 or have == 0:
            self._partial.restart(response.headers.get("ETag", ""))
        check_room(self._folder, total - self._partial.size_bytes, name)

    def _expect(self, total: int) -> None:
        """Compares the size that the server tells with what is known."""
        name = self._source.name
        if not 0 < total <= FILE_MAX_BYTES:
            raise PullFailed(f"The server does not tell the size of {name}, so it is not fetched. Use another source.")
        if self._total not in {0, total}:
            if self._source.size_bytes:
                raise PullFailed(f"The server has another {name} ({total} bytes, not {self._total}). Pull again later.")
            self._partial.restart("")
            self._total = 0
            raise Interrupted(f"{name} was changed on the server; it is fetched from the start.")
        self._total = total

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        """Writes the body to the partial file."""
        loop = asyncio.get_running_loop()
        since, mark = loop.time(), self._partial.size_bytes
        async for chunk in response.content.iter_any():
            if self._partial.size_bytes + len(chunk) > self._total:
                self._partial.restart("")
                raise Interrupted(f"The server sent more of {self._source.name} than it told.")
            self._partial.write(chunk)
            self._progress(self._partial.size_bytes, self._total)
            passed = loop.time() - since
            if passed < self._limits.window_s:
                continue
            if self._partial.size_bytes - mark < passed * self._limits.least_bytes_per_s:
                raise Interrupted(f"The server sends {self._source.name} too slowly.")
            since, mark = loop.time(), self._partial.size_bytes


def _content_range(name: str, headers: Mapping[str, str]) -> tuple[int, int]:
    """First byte and whole size that a partial answer tells."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None:
        raise PullFailed(f"The server does not say which part of {name} it sends. Use another source.")
    return int(match[1]), int(match[3])


def _refusal(name: str, status: int, headers: Mapping[str, str], limits: Limits) -> PeerinferError:
    """The error that an HTTP status stands for."""
    if status in {401, 403}:
        return AccessDenied(
            f"The server does not hand out {name} (HTTP {status}): it wants a token, or that you accept its licence."
        )
    if status in {404, 410}:
        return UnknownModel(f"There is no {name} at that address (HTTP {status}). Check it.")
    if status not in _TRANSIENT:
        return PullFailed(f"The server answered HTTP {status} for {name}. Check the address.")
    asked = headers.get("Retry-After", "")
    wait_s = float(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 9 else 0.0
    if wait_s > limits.retry_after_max_s:
        return PullFailed(f"The server has too much to do for {name}; it says: try again in {wait_s / 60:.0f} minutes.")
    reason = "limits how much may be fetched" if status == 429 else "has a problem"
    return Interrupted(f"The server of {name} {reason} (HTTP {status}).", wait_s)


def _proxy(url: URL) -> str | None:
    """The proxy that this machine's environment names for `url`, if any. A `.netrc` is not looked at."""
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _short(error: BaseException) -> str:
    """What a library says, without its repetitions."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = error.certificate_error
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (str(error) or type(error).__name__)[:REASON_MAX_CHARS]
