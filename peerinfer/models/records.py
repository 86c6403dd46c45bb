"""Manifests and headers of models on disk, under names made of digests only. Blocks."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from peerinfer.errors import CorruptModel
from peerinfer.models.atomic import replacing
from peerinfer.models.manifest import MANIFEST_MAX_BYTES, Manifest, decode_manifest, encode_manifest
from peerinfer.models.pull.origin import ORIGIN_MAX_BYTES
from peerinfer.models.shelf import shown

NAME_MAX_BYTES = 256
"""64 characters of four bytes."""


class Records:
    """In `folder`: `<digest>.manifest`, and `<digest>.<file number>.header` for models that lie elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def digests(self) -> tuple[str, ...]:
        """The models with a manifest here."""
        try:
            return tuple(sorted(path.stem for path in self.folder.glob("*.manifest") if len(path.stem) == 64))
        except OSError:
            return ()

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest of a model, if it is here and sound."""
        with contextlib.suppress(OSError, CorruptModel):
            path = self._manifest_path(digest)
            if path.stat().st_size <= MANIFEST_MAX_BYTES:
                return decode_manifest(path.read_bytes(), digest)
        return None

    def has_manifest(self, digest: str) -> bool:
        """Whether there is a file for the manifest of a model."""
        return self._manifest_path(digest).is_file()

    def put_manifest(self, manifest: Manifest) -> None:
        """Keeps a manifest. Raises `HomeError`."""
        path = self._manifest_path(manifest.digest)
        if not path.exists():
            with replacing(path) as partial:
                partial.write_bytes(encode_manifest(manifest))

    def headers(self, manifest: Manifest, digest: str) -> tuple[Path, ...] | None:
        """The files with the headers of a model, if all are here and sound."""
        paths = tuple(self._header_path(digest, number) for number in range(len(manifest.parts)))
        try:
            for path, part in zip(paths, manifest.parts, strict=True):
                if path.stat().st_size != part.n_bytes or hashlib.sha256(path.read_bytes()).digest() != part.digest:
                    return None
        except OSError:
            return None
        return paths

    def put_headers(self, manifest: Manifest, digest: str, contents: Sequence[bytes]) -> None:
        """Keeps the headers of a model. Raises `CorruptModel` if one is not what the manifest says, `HomeError`."""
        for number, (content, part) in enumerate(zip(contents, manifest.parts, strict=True)):
            if len(content) != part.n_bytes or hashlib.sha256(content).digest() != part.digest:
                raise CorruptModel(f"A header of the model {digest[:12]} came damaged. Load the model again.")
            with replacing(self._header_path(digest, number)) as partial:
                partial.write_bytes(content)

    def name(self, digest: str) -> str:
        """What a model that lies elsewhere was called when it was fetched; a piece of its digest if that is lost."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return shown(self._name_path(digest).read_bytes()[:NAME_MAX_BYTES].decode()) or digest[:12]
        return digest[:12]

    def put_name(self, digest: str, name: str) -> None:
        """Keeps what a model is called. Raises `HomeError`."""
        with replacing(self._name_path(digest)) as partial:
            partial.write_bytes(shown(name).encode())

    def origin(self, digest: str) -> bytes:
        """Where the files of a model came from, as it was put; no bytes if that is not known."""
        with contextlib.suppress(OSError):
            return self._origin_path(digest).read_bytes()[:ORIGIN_MAX_BYTES]
        return b""

    def put_origin(self, digest: str, origin: bytes) -> None:
        """Keeps where the files of a model came from. Raises `HomeError`."""
        with replacing(self._origin_path(digest)) as partial:
            partial.write_bytes(origin)

    def remove(self, digest: str) -> None:
        """Forgets a model."""
        single = (self._manifest_path(digest), self._name_path(digest), self._origin_path(digest))
        for path in (*single, *self.folder.glob(f"{digest}.*.header")):
            path.unlink(missing_ok=True)

    def _manifest_path(self, digest: str) -> Path:
        return self.folder / f"{_checked(digest)}.manifest"

    def _name_path(self, digest: str) -> Path:
        return self.folder / f"{_checked(digest)}.name"

    def _origin_path(self, digest: str) -> Path:
        return self.folder / f"{_checked(digest)}.origin"

    def _header_path(self, digest: str, number: int) -> Path:
        return self.folder / f"{_checked(digest)}.{int(number)}.header"


def _checked(digest: str) -> str:
    """The digest, which may come from anybody, if it is one: only then does it become part of a path."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise CorruptModel("A model is named by 64 hex digits; this one is not.")
    return digest
