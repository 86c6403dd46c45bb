"""What a person types to name a model that shall be fetched, parsed and checked; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from peerinfer.errors import BadRequest
from peerinfer.names import clean_name

REFERENCE_MAX_CHARS: Final = 2048
"""Signed links to a file are about 1,000 characters long."""
FILE_NAME_MAX_CHARS: Final = 200
"""File systems take 255 bytes; the rest is for what we put around a name while it is written."""
FOLDERS_MAX: Final = 4
"""Folders that a file of a repository may lie in; repositories use one."""
FORMS: Final = (
    "Write a name of the catalogue (smollm2:135m), hf:OWNER/REPO, hf:OWNER/REPO:QUANT, hf:OWNER/REPO/FILE.gguf, "
    "https://HOST/FILE.gguf#sha256=DIGEST, or the path of a .gguf file."
)

_HUB_PREFIXES = ("hf://", "hf:", "hf.co/")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""An owner or a repository, as the hub's own check has it: up to 96 characters."""
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+()\[\],=@~-]*")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""File names that mean a device on Windows."""
_SHORT = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}(?::[a-z0-9][a-z0-9._-]{0,31})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_WHITE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class HubReference:
    """A model in a repository of the hub: one file by name, or the best file of a quantisation."""

    owner: str
    repo: str
    quant: str = ""
    """Such as `Q4_K_M`; empty: the one that is usually wanted."""
    file: str = ""
    """Path inside the repository, with `/`; empty: chosen by `quant`."""

    @property
    def repo_id(self) -> str:
        """`owner/repo`."""
        return f"{self.owner}/{self.repo}"

    def __str__(self) -> str:
        tail = f"/{self.file}" if self.file else f":{self.quant}" if self.quant else ""
        return f"hf:{self.repo_id}{tail}"


@dataclass(frozen=True, slots=True)
class WebReference:
    """A file on a web server, which must have this digest."""

    url: str
    """Without the fragment; https, or http to this machine itself."""
    sha256: str
    """64 hex digits in lower case."""
    file: str
    """The file's name: one checked segment that ends in `.gguf`."""

    def __str__(self) -> str:
        return f"{self.url}#sha256={self.sha256}"


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file on this machine, which the person who named it may read."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class ShortName:
    """A name of the catalogue: `name` or `name:size`, in lower case."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference = HubReference | WebReference | FileReference | ShortName


def parse_reference(text: str) -> Reference:
    """What `text` names. Raises `BadRequest`, whose sentence says what can be written."""
    text = text.strip()
    if not text or len(text) > REFERENCE_MAX_CHARS or not text.isprintable():
        raise BadRequest(f"{_shown(text)} does not name a model. {FORMS}")
    for prefix in _HUB_PREFIXES:
        if text.lower().startswith(prefix):
            return _hub(text, text[len(prefix) :])
    if text.lower().startswith(("https://", "http://")):
        return _web(text)
    if _looks_like_a_path(text):
        return FileReference(text)
    if _SHORT.fullmatch(text.lower()):
        return ShortName(text.lower())
    raise BadRequest(f"{_shown(text)} does not name a model. {FORMS}")


def safe_file(path: str) -> bool:
    """Whether `path` may name a GGUF file inside a folder of ours: relative, `/` between plain names, no way out."""
    segments = path.split("/")
    if len(segments) > FOLDERS_MAX + 1 or not segments[-1].lower().endswith(".gguf"):
        return False
    return all(safe_segment(segment) for segment in segments)


def safe_segment(name: str) -> bool:
    """Whether `name` is one plain name of a file or folder on every system."""
    return (
        len(name) <= FILE_NAME_MAX_CHARS
        and _SEGMENT.fullmatch(name) is not None
        and not name.endswith((".", " "))
        and _DEVICES.fullmatch(name) is None
    )


def allowed_url(parts: SplitResult) -> bool:
    """Whether a file may be fetched from there: https, or http to this machine; no password in it."""
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _hub(text: str, rest: str) -> HubReference:
    rest = rest.removeprefix("//")
    owner, _, tail = rest.partition("/")
    repo, slash, file = tail.partition("/")
    quant = ""
    if not slash:
        repo, colon, quant = repo.partition(":")
        if colon and not _QUANT.fullmatch(quant):
            raise BadRequest(f"{_shown(text)} has no quantisation after the colon, such as Q4_K_M. {FORMS}")
    elif not safe_file(file):
        raise BadRequest(f"{_shown(text)} does not end in the name of a .gguf file of that repository. {FORMS}")
    if not (_is_hub_name(owner) and _is_hub_name(repo)):
        raise BadRequest(f"{_shown(text)} is no repository of the hub: it has an owner and a name. {FORMS}")
    return HubReference(owner, repo, "" if quant.lower() == "latest" else quant, file)


def _is_hub_name(name: str) -> bool:
    """The hub's rule for names, and ours that such a name is a folder on every system."""
    plain = _NAME.fullmatch(name) is not None and safe_segment(name)
    return plain and "--" not in name and ".." not in name and not name.endswith(".git")


def _web(text: str) -> WebReference:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadRequest(f"{_shown(text)} is no address of a file. {FORMS}") from None
    if _WHITE_OR_CONTROL.search(text) or not allowed_url(parts):
        raise BadRequest(
            f"{_shown(text)} cannot be fetched: the address must begin with https:// (http:// only for this machine "
            "itself) and hold no password."
        )
    digest = parts.fragment.lower().removeprefix("sha256=")
    if not parts.fragment.lower().startswith("sha256=") or not _DIGEST.fullmatch(digest):
        raise BadRequest(
            "A file from the web needs its SHA-256, so that it can be verified: add #sha256= and the 64 hex digits "
            "that its publisher gives. From the hub, hf:OWNER/REPO needs none."
        )
    file = unquote(parts.path.rpartition("/")[2])
    if not safe_segment(file) or not safe_file(file):
        raise BadRequest(f"The address must end in the plain name of a .gguf file; {_shown(file)} is none.")
    return WebReference(parts._replace(fragment="").geturl(), digest, file)


def _looks_like_a_path(text: str) -> bool:
    starts = ("/", "./", "../", "~", ".\\", "..\\", "\\\\")
    return text.startswith(starts) or _DRIVE.match(text) is not None or text.lower().endswith(".gguf")


def _shown(text: str) -> str:
    return repr(clean_name(text)) if clean_name(text) else "Nothing"
