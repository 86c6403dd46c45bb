"""A small hub for tests and for people: speaks what huggingface_hub asks, serves a folder, and misbehaves when told to.

`python -m tests.models.hub_server FOLDER` serves FOLDER/OWNER/REPO/… and prints the endpoint for HF_ENDPOINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from aiohttp import web

CHUNK_BYTES = 64 * 1024
LICENCE = "apache-2.0"
TOKEN = "hf_a_good_token"

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Request:
    """One request that the server saw."""

    method: str
    path: str
    range: str
    if_range: str
    authorization: str
    sent_bytes: int = 0

    @property
    def first_byte(self) -> int:
        """Where the range that was asked for begins."""
        match = _RANGE.fullmatch(self.range)
        return int(match[1]) if match else 0


@dataclass
class Faults:
    """What goes wrong, and how often."""

    cuts: list[int] = field(default_factory=list)
    """For each request for bytes in turn: the connection is cut after so many of them."""
    before_cut: asyncio.Event | None = None
    """Awaited before a cut, so that a test knows what had arrived."""
    hold_after: int | None = None
    """Requests for bytes stand still after so many, until `released` is set."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    flipped: bool = False
    """One bit of every file is wrong."""
    no_ranges: bool = False
    """Ranges are ignored: the whole file is sent."""
    statuses: list[int] = field(default_factory=list)
    """Answers to the next requests for bytes, instead of bytes."""
    api_statuses: list[int] = field(default_factory=list)
    """Answers to the next questions."""
    api_body: str = ""
    """Answer to every question, instead of what is there."""
    retry_after: str = ""
    redirects: int = 1
    """From the file's address to its bytes; above what a client follows, it is a loop."""
    location: str = ""
    """Where the file's address sends to, instead of to its bytes."""
    etag: str = ""
    """Instead of the real one."""
    extra_headers: dict[str, str] = field(default_factory=dict)
    """On the answers with bytes."""


class HubServer:
    """The server; use it with `async with`."""

    def __init__(
        self,
        folder: Path,
        *,
        gated: set[str] | None = None,
        private: set[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.folder = folder
        self._tls = tls
        self.gated = gated or set()
        self.private = private or set()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.endpoint = ""
        self.cdn = ""
        self._digests: dict[tuple[Path, int, int], str] = {}
        app = web.Application()
        app.router.add_get("/api/models/{owner}/{repo}", self._info)
        app.router.add_get("/api/models/{owner}/{repo}/revision/{revision}", self._info)
        app.router.add_get("/api/models/{owner}/{repo}/tree/{revision}", self._tree)
        app.router.add_get("/{owner}/{repo}/resolve/{revision}/{file:.+}", self._resolve)
        app.router.add_get("/hop/{left}/{owner}/{repo}/{file:.+}", self._hop)
        app.router.add_get("/cdn/{owner}/{repo}/{file:.+}", self._bytes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start(self, port: int = 0) -> None:
        """Listens on loopback; then `endpoint` is known, and `cdn`, another origin, to which it redirects for bytes."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls).start()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        scheme = "https" if self._tls else "http"
        self.endpoint, self.cdn = (f"{scheme}://127.0.0.1:{address[1]}" for address in self._runner.addresses)

    async def stop(self) -> None:
        """Ends all connections."""
        self.faults.released.set()
        await self._runner.cleanup()

    async def __aenter__(self) -> HubServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def put(self, repo: str, file: str, data: bytes) -> str:
        """Adds a file to a repository. Returns its SHA-256."""
        path = self.folder / repo / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def url(self, repo: str, file: str) -> str:
        """The address of a file's bytes, as any web server has one."""
        return f"{self.cdn}/cdn/{repo}/{file}"

    def byte_requests(self) -> list[Request]:
        """Those that were for a file's bytes."""
        return [request for request in self.requests if request.path.startswith("/cdn/")]

    def commit(self, repo: str) -> str:
        """Changes when the repository does."""
        names = "\n".join(f"{path}:{self._digest(path)}" for path in self._files(repo))
        return hashlib.sha1(names.encode(), usedforsecurity=False).hexdigest()

    def _files(self, repo: str) -> list[Path]:
        return sorted(path for path in (self.folder / repo).rglob("*") if path.is_file())

    def _digest(self, path: Path) -> str:
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def _seen(self, request: web.Request) -> Request:
        seen = Request(
            request.method,
            request.path,
            request.headers.get("Range", ""),
            request.headers.get("If-Range", ""),
            request.headers.get("Authorization", ""),
        )
        self.requests.append(seen)
        return seen

    def _repo(self, request: web.Request) -> str:
        """The repository that is asked for, if this client may see it."""
        repo = f"{request.match_info['owner']}/{request.match_info['repo']}"
        hidden = repo in self.private and request.headers.get("Authorization") != f"Bearer {TOKEN}"
        if hidden or not (self.folder / repo).is_dir():
            raise web.HTTPUnauthorized(headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "No repository"})
        return repo

    async def _info(self, request: web.Request) -> web.Response:
        self._seen(request)
        if self.faults.api_statuses:
            return web.Response(status=self.faults.api_statuses.pop(0), headers=self._pause())
        if self.faults.api_body:
            return web.Response(text=self.faults.api_body)
        repo = self._repo(request)
        return web.json_response(
            {
                "_id": "1",
                "id": repo,
                "modelId": repo,
                "sha": self.commit(repo),
                "private": repo in self.private,
                "gated": "manual" if repo in self.gated else False,
                "tags": ["gguf", f"license:{LICENCE}"],
                "cardData": {"license": LICENCE},
                "siblings": [self._sibling(repo, path) for path in self._files(repo)],
            }
        )

    def _sibling(self, repo: str, path: Path) -> dict[str, object]:
        name, size = path.relative_to(self.folder / repo).as_posix(), path.stat().st_size
        if not name.endswith(".gguf"):
            return {"rfilename": name, "size": size, "blobId": "0" * 40}
        lfs = {"sha256": self._digest(path), "size": size, "pointerSize": 134}
        return {"rfilename": name, "size": size, "blobId": "0" * 40, "lfs": lfs}

    async def _tree(self, request: web.Request) -> web.Response:
        self._seen(request)
        repo = self._repo(request)
        entries: list[dict[str, object]] = []
        for path in self._files(repo):
            entry: dict[str, object] = {
                "type": "file",
                "oid": "0" * 40,
                "size": path.stat().st_size,
                "path": path.relative_to(self.folder / repo).as_posix(),
            }
            if path.suffix == ".gguf":
                entry["lfs"] = {"oid": self._digest(path), "size": path.stat().st_size, "pointerSize": 134}
            entries.append(entry)
        return web.json_response(entries)

    async def _resolve(self, request: web.Request) -> web.Response:
        seen = self._seen(request)
        repo, file = self._repo(request), request.match_info["file"]
        if repo in self.gated and seen.authorization != f"Bearer {TOKEN}":
            return web.Response(status=401, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Gated"})
        path = self.folder / repo / file
        if not path.is_file():
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        digest = self._digest(path)
        headers = {
            "X-Repo-Commit": self.commit(repo),
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(path.stat().st_size),
            "ETag": f'"{digest}"',
            "Location": self.faults.location or self._step(self.faults.redirects - 1, f"{repo}/{file}"),
        }
        return web.Response(status=302, headers=headers)

    def _step(self, left: int, file: str) -> str:
        return f"{self.cdn}/hop/{left}/{file}" if left > 0 else f"{self.cdn}/cdn/{file}"

    async def _hop(self, request: web.Request) -> web.Response:
        self._seen(request)
        info = request.match_info
        file = f"{info['owner']}/{info['repo']}/{info['file']}"
        return web.Response(status=307, headers={"Location": self._step(int(info["left"]) - 1, file)})

    def _pause(self) -> dict[str, str]:
        return {"Retry-After": self.faults.retry_after} if self.faults.retry_after else {}

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        seen, faults = self._seen(request), self.faults
        if faults.statuses:
            return web.Response(status=faults.statuses.pop(0), headers=self._pause())
        info = request.match_info
        path = self.folder / info["owner"] / info["repo"] / info["file"]
        if not path.is_file():
            return web.Response(status=404)
        data = bytearray(path.read_bytes())
        if faults.flipped:
            data[len(data) // 2] ^= 1
        etag = faults.etag or f'"{self._digest(path)[:32]}"'
        first, last = self._wanted(seen, etag, len(data))
        if first >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        partly = (first, last) != (0, len(data) - 1) or (bool(seen.range) and not faults.no_ranges and first > 0)
        response = web.StreamResponse(status=206 if partly else 200, headers={"ETag": etag, **faults.extra_headers})
        response.content_length = last + 1 - first
        if partly:
            response.headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        await response.prepare(request)
        if request.method != "HEAD":
            with contextlib.suppress(ConnectionError):  # the client has gone
                await self._send(request, response, seen, bytes(data[first : last + 1]))
        return response

    def _wanted(self, seen: Request, etag: str, size: int) -> tuple[int, int]:
        """First and last byte to send."""
        match = _RANGE.fullmatch(seen.range)
        if match is None or self.faults.no_ranges or (seen.if_range and seen.if_range != etag):
            return 0, size - 1
        return int(match[1]), min(int(match[2] or size - 1), size - 1)

    async def _send(self, request: web.Request, response: web.StreamResponse, seen: Request, data: bytes) -> None:
        faults = self.faults
        cut = faults.cuts.pop(0) if faults.cuts else len(data) + 1
        for at in range(0, len(data), CHUNK_BYTES):
            if faults.hold_after is not None and at >= faults.hold_after:
                await faults.released.wait()
            chunk = data[at : at + CHUNK_BYTES][: max(0, cut - at)]
            seen.sent_bytes += len(chunk)
            await response.write(chunk)
            if seen.sent_bytes >= cut:
                if faults.before_cut is not None:
                    await faults.before_cut.wait()
                assert request.transport is not None
                request.transport.close()
                return
        await response.write_eof()


async def serve(folder: Path) -> None:
    """Serves until it is interrupted."""
    async with HubServer(folder) as hub:
        print(hub.endpoint, flush=True)  # noqa: T201 - for whoever started it
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(serve(Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
