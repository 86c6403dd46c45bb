"""The child of a pull: brings the files that a reference names, verified, and tells how far it is. Killed to cancel."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx2

from peerinfer.errors import AccessDenied, BadRequest, PullFailed, UnknownModel
from peerinfer.models.atomic import check_room
from peerinfer.models.pull import hub
from peerinfer.models.pull.calls import FILE, HUB, WEB, Fetched, Progress, pack_fetched, pack_progress, texts
from peerinfer.models.pull.choice import model_name, parts_of, stem_of
from peerinfer.models.pull.partial import file_digest, remove_stale
from peerinfer.models.pull.reference import HubReference, safe_segment
from peerinfer.models.pull.web import Source, fetch
from peerinfer.process.inside import Emit, Part

EVENT_PAUSE_S: Final = 0.2
"""Between two events of progress: often enough for an eye, next to nothing for the daemon."""
_DIGEST_CHARS = 8
"""Of the digest, in the name of a file whose plain name is taken."""


class Teller:
    """Tells the progress of one model, which may be of several files."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._next_s = 0.0
        self._before = 0
        self._total = 0

    def begin(self, total_bytes: int) -> None:
        """The size of the whole model."""
        self._total = total_bytes

    def file(self, name: str) -> Callable[[int, int], None]:
        """For bytes done and size of one file."""

        def tell(done: int, size: int) -> None:
            self._total = max(self._total, size)
            now = time.monotonic()
            if now >= self._next_s or self._before + done >= self._total:
                self._next_s = now + EVENT_PAUSE_S
                self._emit(pack_progress(Progress(name, self._before + done, self._total)))

        return tell

    def end(self, size: int) -> None:
        """A file of that size is done."""
        self._before += size


class PullService:
    """Answers one call."""

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:
        """Fetches; the answer says where the files are."""
        teller = Teller(emit)
        match kind, texts(body):
            case (code, [owner, repo, quant, file]) if code == HUB:
                fetched = _from_hub(HubReference(owner, repo, quant, file), teller)
            case (code, [url, sha256, file, folder]) if code == WEB:
                fetched = _from_web(url, sha256, file, Path(folder), teller)
            case (code, [path]) if code == FILE:
                fetched = _from_disk(Path(path), teller)
            case _:
                raise BadRequest("A pull's child was asked for something that it does not know.")
        return [pack_fetched(fetched)]


def _from_hub(reference: HubReference, teller: Teller) -> Fetched:
    found = hub.find(reference)
    variant = found.variant
    teller.begin(variant.size_bytes)
    places = [hub.CachePlace(found, file) for file in variant.files]
    check_room(places[0].blob.parent, sum(place.missing_bytes() for place in places), str(reference))
    paths = [_hub_file(found, place, teller) for place in places]
    name = model_name(variant.stem)
    digests = tuple(file.sha256 for file in variant.files)
    return Fetched(name, tuple(str(path) for path in paths), digests, variant.size_bytes, found.licence)


def _hub_file(found: hub.Found, place: hub.CachePlace, teller: Teller) -> Path:
    """One file in the hub's cache, fetched unless it is there."""
    file, tell = place.file, teller.file(place.file.path)
    with place.locked():
        there = place.whole(lambda done: tell(done, file.size_bytes))
        if there is None:
            if not found.online:
                raise PullFailed(
                    f"The cache has no whole {file.path}, and the hub cannot be reached. Pull again later."
                )
            try:
                asyncio.run(fetch(place.source(), place.partial, place.blob, tell, tls=httpx2.create_ssl_context()))
            except AccessDenied as error:
                raise hub.denied(found.reference) from error
        path = place.settle()
    teller.end(file.size_bytes)
    return path


def _from_web(url: str, sha256: str, file: str, folder: Path, teller: Teller) -> Fetched:
    """A file of the web, in `folder` under its own name; with a piece of its digest if that name is another file's."""
    if not safe_segment(file):
        raise BadRequest("The name of that file cannot be used.")
    tell = teller.file(file)
    partial = folder / f".{sha256}.partial"
    lock = partial.with_name(f"{partial.name}.lock")
    remove_stale(folder, f".{'?' * 64}.partial*")
    with hub.locked(lock):
        final, size = _web_place(folder, file, sha256, tell)
        if not size:
            source = Source(url, sha256, file)
            size = asyncio.run(fetch(source, partial, final, tell, tls=httpx2.create_ssl_context()))
        with contextlib.suppress(OSError):  # Windows keeps it, as it is held
            lock.unlink()  # whoever waits for it finds the file
    return Fetched(model_name(final.stem), (str(final),), (sha256,), size, "")


def _web_place(folder: Path, file: str, sha256: str, tell: Callable[[int, int], None]) -> tuple[Path, int]:
    """Where the file belongs, and its size if it is there already, else 0."""
    stem = file[: -len(".gguf")]
    for name in (f"{stem}.gguf", f"{stem}@{sha256[:_DIGEST_CHARS]}.gguf"):
        path = folder / name
        if not path.exists():
            return path, 0
        size = path.stat().st_size
        if file_digest(path, lambda done, size=size: tell(done, size)) == sha256:
            return path, size
    return path, 0


def _from_disk(path: Path, teller: Teller) -> Fetched:
    """A file that is here already: it stays where it is."""
    path = path.expanduser().absolute()
    if path.suffix.lower() != ".gguf" or not path.is_file():
        raise UnknownModel(f"There is no model file {path}. Name a .gguf file that exists.")
    files = [path.with_name(name) for name in parts_of(path.name)]
    missing = next((file.name for file in files if not file.is_file()), None)
    if missing:
        raise UnknownModel(f"{path.name} is one part of a model; {missing} is missing beside it.")
    sizes = [file.stat().st_size for file in files]
    teller.begin(sum(sizes))
    digests: list[str] = []
    for file, size in zip(files, sizes, strict=True):
        tell = teller.file(file.name)
        digests.append(file_digest(file, lambda done, tell=tell, size=size: tell(done, size)))
        teller.end(size)
    return Fetched(model_name(stem_of(path.name)), tuple(map(str, files)), tuple(digests), sum(sizes), "")


def open_service() -> PullService:
    """The service of a fresh child."""
    return PullService()
