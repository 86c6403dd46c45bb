"""What the hub is asked, and how a file comes to lie in its cache as every other program that uses the hub expects it.

Endpoint, token and cache are huggingface_hub's own (HF_ENDPOINT, HF_TOKEN, HF_HOME …). Only its downloads are not used:
they cannot be gone on from by another process, so `web.fetch` brings the blob. Imported in the pull's child only.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx2
import huggingface_hub.utils as hub_utils
from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.errors import RepositoryNotFoundError as NoSuchRepository
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock

from peerinfer import __version__
from peerinfer.errors import AccessDenied, CorruptModel, HomeError, PeerinferError, PullFailed, UnknownModel
from peerinfer.models.pull.choice import RepoFile, Variant, choose
from peerinfer.models.pull.partial import Hashed, file_digest, remove_stale
from peerinfer.models.pull.reference import HubReference, safe_file
from peerinfer.models.pull.web import Source

ANSWER_S: Final = 30.0
"""For one question to the hub."""
WAITS_S: Final = (1.0, 4.0)
"""Seconds between the tries of one question, if the hub does not say how long to wait."""
WAIT_MAX_S: Final = 30.0
REASON_MAX_CHARS: Final = 160
"""Of what a library says about a connection, in our sentence."""
FILES_MAX: Final = 10_000
"""Files of one repository that are looked at."""

constants.HF_HUB_DISABLE_TELEMETRY = True
"""Nothing about this machine goes into the library's user agent."""

_hub_utils: Any = hub_utils
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Found:
    """A model in a repository, and the state of the repository that it was found in."""

    reference: HubReference
    commit: str
    variant: Variant
    licence: str
    """As the model's page names it; empty if it does not."""
    online: bool
    """False: the hub could not be reached, and this is what the cache has."""


def find(reference: HubReference) -> Found:
    """Asks the hub for the model that `reference` means; the cache, if the hub cannot be reached.

    Raises `UnknownModel`, `BadRequest`, `AccessDenied` or `PullFailed`.
    """
    try:
        info = _ask(reference)
    except OfflineModeIsEnabled:
        return _cached(reference, "HF_HUB_OFFLINE is set")
    except (HfHubHTTPError, HFValidationError) as error:
        _raise_for(error, reference)
    except httpx2.HTTPError as error:
        return _cached(
            reference, f"the hub cannot be reached ({(str(error) or type(error).__name__)[:REASON_MAX_CHARS]})"
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise PullFailed(f"What answers at {constants.ENDPOINT} is no hub. Check HF_ENDPOINT.") from None
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):
        raise PullFailed(f"The hub at {constants.ENDPOINT} gives no commit of {reference.repo_id}. Check HF_ENDPOINT.")
    return Found(reference, commit, choose(reference, _files(info)), _licence(info), online=True)


class CachePlace:
    """Where one file of a repository lies in the hub's cache: `blobs/DIGEST`, and `snapshots/COMMIT/FILE` beside it."""

    def __init__(self, found: Found, file: RepoFile) -> None:
        if not safe_file(file.path) or not _DIGEST.fullmatch(file.sha256):
            raise CorruptModel(f"The hub gives no SHA-256 of {file.path}: it cannot be verified, and is not fetched.")
        repo = found.reference.repo_id
        cache = Path(constants.HF_HUB_CACHE)
        self._folder = cache / repo_folder_name(repo_id=repo, repo_type="model")
        self._commit = found.commit
        self.file = file
        self.blob = self._folder / "blobs" / file.sha256
        self.partial = self.blob.with_name(f"{file.sha256}.incomplete")
        self.pointer = self._folder.joinpath("snapshots", found.commit, *file.path.split("/"))
        self._lock = cache / ".locks" / self._folder.name / f"{file.sha256}.lock"
        self._url = hf_hub_url(repo, file.path, revision=found.commit)

    def locked(self) -> AbstractContextManager[object]:
        """Waits until nobody else, in whatever program, fetches this file."""
        remove_stale(self.blob.parent, f"{'?' * 64}.incomplete*")
        return locked(self._lock)

    def missing_bytes(self) -> int:
        """What is still to be fetched."""
        if self.pointer.exists() or self.blob.exists():
            return 0
        there = self.partial.stat().st_size if self.partial.exists() else 0
        return max(0, self.file.size_bytes - there)

    def source(self) -> Source:
        """What to fetch the file from, with the person's token."""
        headers = _hub_utils.build_hf_headers(library_name="peerinfer", library_version=__version__)
        return Source(self._url, self.file.sha256, self.file.path, self.file.size_bytes, headers, immutable=True)

    def whole(self, hashed: Hashed) -> Path | None:
        """The file, if the cache has it and its digest is right. One that is damaged is removed."""
        for path in (self.pointer, self.blob):
            if not path.exists():
                continue
            if file_digest(path, hashed) == self.file.sha256:
                return path
            path.resolve().unlink(missing_ok=True)
            self.pointer.unlink(missing_ok=True)
        return None

    def settle(self) -> Path:
        """Makes the snapshot name the blob, and `main` this commit. Returns the path by which the file is known.

        Where there are no symbolic links the blob itself is moved to the snapshot, as huggingface_hub does.
        """
        try:
            if not self.pointer.exists():
                self.pointer.unlink(missing_ok=True)
                self.pointer.parent.mkdir(parents=True, exist_ok=True)
                _link(self.blob, self.pointer)
            main = self._folder / "refs" / "main"
            main.parent.mkdir(parents=True, exist_ok=True)
            if not main.exists() or main.read_text(encoding="ascii", errors="replace") != self._commit:
                fresh = main.with_name(f"main.{os.getpid()}.tmp")
                fresh.write_text(self._commit, encoding="ascii")
                fresh.replace(main)
        except OSError as error:
            raise HomeError(
                f"The hub's cache {self._folder} cannot be written ({error.strerror}). "
                "Check its permissions, or set HF_HOME."
            ) from None
        return self.pointer


def locked(path: Path) -> AbstractContextManager[object]:
    """Holds the lock file `path`, after whoever has it; freed if this process dies. Raises `HomeError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"The folder {path.parent} cannot be made ({error.strerror}). Check the permissions there."
        ) from None
    return WeakFileLock(path)


def denied(reference: HubReference, status: str = "") -> AccessDenied:
    """What a person can do about a repository that is not open to everybody."""
    return AccessDenied(
        f"{reference.repo_id} is not open to everybody{status}: accept its licence on {constants.ENDPOINT}/"
        f"{reference.repo_id}, then run `hf auth login` here, or set HF_TOKEN where the daemon is started."
    )


def _ask(reference: HubReference) -> ModelInfo:
    """The repository's state, with the digests of its files; asked again while the hub has too much to do."""
    api = HfApi(library_name="peerinfer", library_version=__version__)
    for wait_s in WAITS_S:
        try:
            return api.model_info(reference.repo_id, files_metadata=True, timeout=ANSWER_S)
        except HfHubHTTPError as error:
            if error.response.status_code not in {408, 429, 500, 502, 503, 504}:
                raise
            asked = error.response.headers.get("Retry-After", "")
            time.sleep(min(float(asked), WAIT_MAX_S) if asked.isdecimal() else wait_s)
    return api.model_info(reference.repo_id, files_metadata=True, timeout=ANSWER_S)


def _files(info: ModelInfo) -> list[RepoFile]:
    return [
        RepoFile(
            sibling.rfilename,
            (sibling.lfs.size if sibling.lfs else sibling.size) or 0,
            sibling.lfs.sha256.lower() if sibling.lfs else "",
        )
        for sibling in (info.siblings or [])[:FILES_MAX]
    ]


def _licence(info: ModelInfo) -> str:
    """From the model's card, else from its tags."""
    named: object = info.card_data.get("license") if info.card_data else None
    if not isinstance(named, str):
        named = next((tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")), "")
    return "".join(character for character in named if character.isprintable())[:64]


def _cached(reference: HubReference, why: str) -> Found:
    """What the cache has of the newest state that it knows."""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=reference.repo_id, repo_type="model")
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        snapshot = folder / "snapshots" / commit
        if not _COMMIT.fullmatch(commit):
            raise ValueError(commit)
        files = [
            RepoFile(path.relative_to(snapshot).as_posix(), path.stat().st_size, _blob_digest(path))
            for path in sorted(snapshot.rglob("*.gguf"))[:FILES_MAX]
            if path.is_file()
        ]
        return Found(reference, commit, choose(reference, files), "", online=False)
    except (OSError, ValueError, PeerinferError):
        raise PullFailed(
            f"{reference} cannot be fetched: {why}, and the cache does not have it. "
            f"Check the connection to {constants.ENDPOINT}, then pull again."
        ) from None


def _blob_digest(path: Path) -> str:
    """The digest that the blob of a cached file is named by; computed where there are no symbolic links."""
    name = path.resolve().name
    return name if _DIGEST.fullmatch(name) else file_digest(path, lambda _: None)


def _link(blob: Path, pointer: Path) -> None:
    try:
        os.symlink(os.path.relpath(blob, pointer.parent), pointer)
    except (OSError, NotImplementedError):
        os.replace(blob, pointer)


def _raise_for(error: HfHubHTTPError | HFValidationError, reference: HubReference) -> NoReturn:
    """The error of our tree for what the hub answered."""
    repo = reference.repo_id
    if isinstance(error, HFValidationError):
        raise UnknownModel(f"{repo} is no repository of the hub. Check the name.") from None
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        raise denied(reference) from None
    if isinstance(error, NoSuchRepository) or status == 404:
        raise UnknownModel(
            f"The hub has no repository {repo} that you may see. Check the name; for a private one, set HF_TOKEN "
            "where the daemon is started."
        ) from None
    if status in {401, 403}:
        raise denied(reference, f" (HTTP {status})") from None
    if status == 429:
        raise PullFailed(
            "The hub answers no more questions from here for now (HTTP 429). Wait a few minutes, or set HF_TOKEN: "
            "it answers more to those it knows."
        ) from None
    raise PullFailed(f"The hub has a problem (HTTP {status}). Pull again later.") from None
