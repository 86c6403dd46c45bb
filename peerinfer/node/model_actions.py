"""What a person can have the node do with model files: list, pull, remove, and say which one is meant."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from peerinfer.api.actions import ModelInfo, Progress, ProgressHandler
from peerinfer.api.replies import JsonObject
from peerinfer.control.state import Instance
from peerinfer.errors import BadRequest, ModelError, UnknownModel
from peerinfer.models.mlx_import.calls import Progressed
from peerinfer.models.mlx_import.host import convert_in_child, target_of
from peerinfer.models.pull import calls
from peerinfer.models.pull.catalogue import load_catalogue
from peerinfer.models.shelf import ShelfItem, item_of
from peerinfer.models.store import ModelEntry
from peerinfer.node.node import Node

PULLED_PREFIXES: Final = ("hf:", "hf.co/", "https://", "http://")
"""What begins so is pulled before it is loaded."""


class ModelActions:
    """The part of `NodeActions` that is about model files."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._importing = asyncio.Lock()
        """One conversion at a time: each takes all processors."""

    async def listing(self, ready: set[str], loaded: Mapping[str, Instance]) -> list[ModelInfo]:
        """Models here, those fetched in part, and those that run elsewhere; `ready` and `loaded` by digest."""
        listing = await self._node.store.listing()
        infos = [_info(entry, entry.digest in ready) for entry in listing.models]
        infos += [ModelInfo(broken.name, "", "", 0, 0, False, broken.reason) for broken in listing.broken]
        for dossier in await self._node.warehouse.library.partial_models():
            facts, name = dossier.facts, self._node.warehouse.library.name_of(dossier.digest)
            size = self._node.warehouse.held_bytes(dossier.digest)
            is_ready = dossier.digest in ready
            infos.append(
                ModelInfo(name, dossier.digest, facts.architecture, facts.n_layers, size, is_ready, here=False)
            )
        known = {info.digest for info in infos}
        others = [one for digest, one in loaded.items() if digest not in known]
        return [
            *infos,
            *(ModelInfo(one.model, one.digest, "", one.stages[-1].last_layer, 0, True, here=False) for one in others),
        ]

    async def catalogue(self) -> JsonObject:
        """See `NodeActions.catalogue`."""
        return (await asyncio.to_thread(load_catalogue, self._node.config.home)).described()

    async def pull(self, reference: str, progress: ProgressHandler) -> JsonObject:
        """See `NodeActions.pull`."""
        catalogue = await asyncio.to_thread(load_catalogue, self._node.config.home)

        def tell(told: calls.Progress) -> None:
            share = told.done_bytes / told.total_bytes if told.total_bytes else None
            size = f" of {told.total_bytes / 1e9:.2f} GB" if told.total_bytes else ""
            text = f"Pulling {told.file}{size}"
            progress(Progress(text, share, told.file, told.done_bytes, told.total_bytes))

        pulled = await self._node.pulls.pull(reference, self._node.store.models_folder, catalogue, tell)
        progress(Progress(f"Checking {pulled.name}"))
        entry = await self._node.store.take_in(
            ShelfItem(pulled.name, pulled.paths, _source(pulled.reference), pulled.licence)
        )
        await self._node.session.models_changed()
        return {
            "model": entry.name,
            "digest": entry.digest,
            "size_bytes": entry.size_bytes,
            "licence": pulled.licence,
            "source": entry.source,
        }

    async def import_folder(self, folder: str, name: str, progress: ProgressHandler) -> JsonObject:
        """See `NodeActions.import_model`."""
        source = Path(folder)
        if not source.is_absolute():
            raise BadRequest("Name the folder of the model by its whole path.")
        store = self._node.store

        def tell(told: Progressed) -> None:
            progress(Progress(f"Converting {source.name}", told.done_bytes / max(1, told.total_bytes)))

        async with self._importing:
            target = await asyncio.to_thread(target_of, name or source.name, store.models_folder)
            progress(Progress(f"Reading {source.name}"))
            converted = await convert_in_child(source, target, tell)
        progress(Progress(f"Checking {target.stem}"))
        try:
            entry = await store.take_in(item_of(target))
        except ModelError:
            await asyncio.to_thread(target.unlink, missing_ok=True)  # nobody could use it, and it would take the name
            raise
        await self._node.session.models_changed()
        return {
            "model": entry.name,
            "digest": entry.digest,
            "size_bytes": entry.size_bytes,
            "loss": converted.loss,
        }

    async def remove(self, name: str, in_use: Mapping[str, str]) -> JsonObject:
        """See `NodeActions.remove_model`; `in_use` gives the names of loaded models by digest."""
        warehouse, store = self._node.warehouse, self._node.store
        try:
            entry = await store.find(name)
        except UnknownModel:
            digest, model, freed = await self._partial(name), name, 0
            if digest is None:
                raise
        else:
            digest, model, freed = entry.digest, entry.name, 0
        if digest in in_use:
            raise BadRequest(f"{model} is loaded. Run `peerinfer unload {in_use[digest]}` first, then remove it.")
        if (known := await store.by_digest(digest)) is not None:
            freed += await store.remove(known)
        freed += await warehouse.forget(digest)
        await self._node.session.models_changed()
        return {"model": model, "freed_bytes": freed}

    async def meant(self, model: str, progress: ProgressHandler) -> str:
        """The name to load: of a file that a person names by its path, or of what must be pulled first."""
        path = Path(model)
        if path.suffix.lower() == ".gguf" and path.is_absolute():
            return await self._node.session.add_model(path)
        if model.lower().startswith(PULLED_PREFIXES):
            return str((await self.pull(model, progress))["model"])
        return model

    async def _partial(self, name: str) -> str | None:
        wanted = name.strip().lower()
        dossiers = await self._node.warehouse.library.partial_models()
        names = {dossier.digest: self._node.warehouse.library.name_of(dossier.digest) for dossier in dossiers}
        return next((digest for digest, each in names.items() if wanted in (each, digest)), None)


def _source(reference: str) -> str:
    """What is kept of a reference; nothing of a path, for a file that a person has somewhere is no pulled one."""
    return reference if reference.startswith(PULLED_PREFIXES) else ""


def _info(entry: ModelEntry, loaded: bool) -> ModelInfo:
    facts = entry.facts
    return ModelInfo(
        entry.name,
        entry.digest,
        facts.architecture,
        facts.n_layers,
        entry.size_bytes,
        loaded,
        source=entry.source,
        licence=entry.licence,
    )
