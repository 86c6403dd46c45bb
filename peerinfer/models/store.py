"""This node's models: what it has, by which name, and the files that a stage needs, cut here or fetched from peers.

A name that comes from elsewhere (a request, a peer) is only ever compared with the names found here, never made a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peerinfer.errors import BadRequest, CorruptModel, HomeError, ModelError, UnknownModel, UnsupportedModel
from peerinfer.models.facts import ModelFacts
from peerinfer.models.fingerprint import fingerprint
from peerinfer.models.holdings import Dossier
from peerinfer.models.inspector import Inspector
from peerinfer.models.known import FileState, Known, KnownModels, file_state
from peerinfer.models.records import Records
from peerinfer.models.shelf import Shelf, ShelfItem, item_of, shown

_DIGEST_CHARS = 8
"""Of the digest, appended to the name of a second model with the same name."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model whose files this node has."""

    name: str
    """Short and stable: the file's name without `.gguf`, in lower case, or the one it was pulled by."""
    paths: tuple[Path, ...]
    """Its files, in order."""
    digest: str
    """Of its manifest, 64 hex digits: what the model is, wherever it lies."""
    size_bytes: int
    facts: ModelFacts
    source: str = ""
    """Where it was pulled from; empty for a file that somebody put here."""
    licence: str = ""


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
    aliases: tuple[tuple[str, str], ...] = ()
    """(another name, the name in `models`) of a model that is here under several names."""


class ModelStore:
    """The models under `home`, in `extra_folders`, and bundled with the installation if `bundled`."""

    def __init__(self, home: Path, extra_folders: Sequence[Path] = (), bundled: bool = True) -> None:
        self.models_folder = home / "models"
        self.inspector = Inspector()
        self.records = Records(home / "manifests")
        self._shelf = Shelf(self.models_folder, extra_folders, bundled)
        self._known = KnownModels(self.models_folder / ".known.json")
        self._reading = asyncio.Lock()
        self._broken: dict[tuple[Path, ...], tuple[tuple[FileState, ...], str]] = {}

    async def listing(self) -> Listing:
        """All models, and the files that cannot be used with the reason. One that is found twice is listed once."""
        models: dict[str, ModelEntry] = {}
        broken: list[BrokenModel] = []
        digests: dict[str, str] = {}
        aliases: dict[str, str] = {}
        for item in await asyncio.to_thread(lambda: list(self._shelf.items())):
            try:
                entry = await self._entry(item)
            except (ModelError, HomeError) as error:  # a full disk that keeps one out hides no other
                broken.append(BrokenModel(item.name, item.paths[0], str(error)))
                continue
            if entry.digest in digests:
                aliases.setdefault(entry.name, digests[entry.digest])
                continue
            if entry.name in models:
                entry = replace(entry, name=f"{entry.name}@{entry.digest[:_DIGEST_CHARS]}")
            digests[entry.digest] = entry.name
            models[entry.name] = entry
        by_name = sorted(models.values(), key=lambda model: model.name)
        others = tuple((alias, name) for alias, name in sorted(aliases.items()) if alias not in models)
        return Listing(tuple(by_name), tuple(sorted(broken, key=lambda model: model.name)), others)

    async def find(self, name: str) -> ModelEntry:
        """The model called `name`, or the only one whose name starts so, in whatever case.

        Raises `UnknownModel` (which says what there is), `BadRequest` if several names start so, `ModelError` if the
        file of that name is broken.
        """
        wanted = name.strip().lower()
        listing = await self.listing()
        meant = {model.name: model.name for model in listing.models} | dict(listing.aliases)
        found = _matches(wanted, list(meant))
        if len({meant[name] for name in found}) == 1:
            return next(model for model in listing.models if model.name == meant[found[0]])
        if found:
            raise BadRequest(f"{shown(name)!r} may mean {', '.join(found)}. Give more of the name.")
        for model in listing.broken:
            if wanted and model.name.startswith(wanted):
                raise ModelError(model.reason)
        names = ", ".join(model.name for model in listing.models) or "none"
        raise UnknownModel(
            f"There is no model {shown(name)!r} here; available: {names}. "
            f"Pull one with `peerinfer pull`, put .gguf files into {self.models_folder}, or name a file by its path."
        )

    async def by_digest(self, digest: str) -> ModelEntry | None:
        """The model with this digest, if this node has its files, under the name that they suggest.

        Files that are just being read for the first time do not keep what is known waiting.
        """
        for item in await asyncio.to_thread(lambda: list(self._shelf.items())):
            known = self._known_entry(item)
            if known is not None and known.digest == digest:
                return known
        if self._reading.locked():
            return None
        return next((model for model in (await self.listing()).models if model.digest == digest), None)

    async def add(self, path: Path) -> ModelEntry:
        """Takes in the model file at `path`, which a person on this machine named, for good.

        Raises `UnknownModel` if there is no such file, `ModelError` if it cannot be used, `HomeError`.
        """
        return await self.take_in(await asyncio.to_thread(_named_item, path))

    async def take_in(self, item: ShelfItem) -> ModelEntry:
        """Takes in files that were named or pulled, for good. Raises `ModelError` if they cannot be used."""
        absent = [path.name for path in item.paths if not path.is_file()]
        if absent:
            raise UnknownModel(f"{item.name} is not complete: {absent[0]} is missing beside it. Fetch all its files.")
        entry = await self._entry(item)
        known = [
            each for each in await asyncio.to_thread(lambda: list(self._shelf.items())) if each.paths == item.paths
        ]
        if not known or known[0] != item:
            await asyncio.to_thread(self._shelf.remember, item)
        return next(model for model in (await self.listing()).models if model.digest == entry.digest)

    async def remove(self, entry: ModelEntry) -> int:
        """Forgets a model under all its names; gives the bytes that became free.

        Files in the models folder and pulled ones are removed; what a person named by its path stays where it is.
        Raises `BadRequest` for the bundled one, `HomeError`.
        """
        items = await asyncio.to_thread(lambda: list(self._shelf.items()))
        entries = [known for item in items if (known := self._known_entry(item)) is not None]
        freed: list[int] = []
        refusal: BadRequest | None = None
        for paths in dict.fromkeys(known.paths for known in entries if known.digest == entry.digest):
            try:
                freed.append(await asyncio.to_thread(self._shelf.remove, paths))
            except BadRequest as error:
                refusal = error
        if refusal is not None and not freed:
            raise refusal
        return sum(freed)

    async def dossier(self, entry: ModelEntry) -> Dossier:
        """All about a model whose files are here. Raises `ModelError` if they were replaced."""
        manifest = await asyncio.to_thread(self.records.manifest, entry.digest)
        if manifest is None:
            raise ModelError(f"The file of {entry.name} was replaced by another one. Load the model again.")
        return Dossier(entry.digest, manifest, await self.inspector.inspect(entry.paths), entry.paths, False)

    async def stop(self) -> None:
        """Ends the child that reads files."""
        await self.inspector.stop()

    async def _entry(self, item: ShelfItem) -> ModelEntry:
        if (entry := self._known_entry(item)) is not None:
            return entry
        async with self._reading:  # one file at a time: a disk is not faster with two
            states = _states(item.paths)
            broken = self._broken.get(item.paths)
            if broken is not None and broken[0] == states:
                raise ModelError(broken[1])
            known = self._known.get(item.paths, states)
            if known is None or not self.records.has_manifest(known.digest):
                try:
                    known = await self._find_out(item.paths, states)
                except (CorruptModel, UnsupportedModel) as error:
                    self._broken[item.paths] = (states, str(error))
                    raise
        return _entry_of(item, known)

    def _known_entry(self, item: ShelfItem) -> ModelEntry | None:
        """The entry of files that are known in their present state."""
        try:
            known = self._known.get(item.paths, _states(item.paths))
        except ModelError:
            return None
        is_whole = known is not None and self.records.has_manifest(known.digest)
        return _entry_of(item, known) if known is not None and is_whole else None

    async def _find_out(self, paths: tuple[Path, ...], states: tuple[FileState, ...]) -> Known:
        inspection = await self.inspector.inspect(paths)
        manifest = await asyncio.to_thread(fingerprint, paths, inspection)
        if _states(paths) != states:
            raise ModelError(f"{paths[0].name} is still being written. Try again when it is complete.")
        known = Known(states, manifest.digest, inspection.facts)
        await asyncio.to_thread(self.records.put_manifest, manifest)
        await asyncio.to_thread(self._known.put, paths, known)
        return known


def _entry_of(item: ShelfItem, known: Known) -> ModelEntry:
    size = sum(state.size_bytes for state in known.states)
    return ModelEntry(item.name, item.paths, known.digest, size, known.facts, item.source, item.licence)


def _named_item(path: Path) -> ShelfItem:
    path = path.expanduser().resolve()
    if path.suffix.lower() != ".gguf" or not path.is_file():
        raise UnknownModel(f"There is no model file {path}. Name a .gguf file that exists.")
    return item_of(path)


def _states(paths: Sequence[Path]) -> tuple[FileState, ...]:
    try:
        return tuple(file_state(path) for path in paths)
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        raise ModelError(
            f"{shown(missing)} is missing: a model in several files needs all of them. Fetch it."
        ) from None
    except OSError as error:
        raise ModelError(f"{shown(paths[0].name)} cannot be read ({error.strerror}). Check its permissions.") from None


def _matches(wanted: str, names: Sequence[str]) -> list[str]:
    """The name itself, else all names that start so."""
    if wanted in names:
        return [wanted]
    return [name for name in names if wanted and name.startswith(wanted)]
