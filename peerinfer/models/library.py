"""What this node knows of models, by digest: from their files, from what was fetched before, or from peers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from pathlib import Path
from typing import Final

from peerinfer.errors import CorruptModel, LinkError, ModelError, UnknownModel
from peerinfer.models.assembly import LocalSource
from peerinfer.models.exchange import Question, Wanted, encode_question
from peerinfer.models.fetch import Peers
from peerinfer.models.holdings import Dossier, held_tensors, ranges_of, shard_source
from peerinfer.models.layout import Layout
from peerinfer.models.manifest import HEADER_MAX_BYTES, MANIFEST_MAX_BYTES, Manifest, decode_manifest
from peerinfer.models.pull.origin import ORIGIN_MAX_BYTES, decode_origin, encode_origin, origin_of
from peerinfer.models.shard_folder import ShardFolder
from peerinfer.models.shards import ShardKey
from peerinfer.models.store import ModelEntry, ModelStore

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 1.0
ASK_TIMES: Final = 20
"""For a manifest that no peer gives: links may just be being made after a start."""


class Library:
    """Dossiers, and the files with tensors of each model: those of `store`, and the shards in `folder`."""

    def __init__(self, store: ModelStore, folder: ShardFolder) -> None:
        self.peers: Peers | None = None
        """How peers are asked, while there is a mesh."""
        self._store = store
        self._folder = folder
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sources: dict[Path, LocalSource] = {}
        self._dossiers: dict[str, Dossier] = {}
        self._origins: dict[str, bytes] = {}
        """Of models whose files are here."""

    async def dossier(self, digest: str, name: str) -> Dossier:
        """All about a model, from peers if need be; `name` is for sentences. Raises `ModelError`."""
        async with self._turns[digest]:
            known = await self._here(digest)
            former = self._dossiers.get(digest)
            if known is None and former is not None and not former.is_header_only:
                raise ModelError(f"The file of {name} was replaced or removed. Load the model again.")
            if known is None:
                known = self._dossiers[digest] = await self._asked(digest, name)
            return known

    async def local(self, digest: str) -> Dossier:
        """All about a model of which something is here. Raises `UnknownModel` for any other."""
        known = await self._here(digest)
        if known is None:
            raise UnknownModel(f"This node has nothing of the model {digest[:12]}.")
        return known

    def manifest(self, digest: str) -> Manifest:
        """The manifest of a model of which something is here. Raises `UnknownModel`. Reads the disk at first."""
        known = self._dossiers.get(digest)
        manifest = known.manifest if known is not None else self._store.records.manifest(digest)
        if manifest is None:
            raise UnknownModel(f"This node has nothing of the model {digest[:12]}.")
        return manifest

    async def layout(self, dossier: Dossier, key: ShardKey) -> Layout:
        """How a shard of a model is written. Raises `ModelError`."""
        return await self._store.inspector.layout(dossier.paths, key, is_header_only=dossier.is_header_only)

    async def sources(self, dossier: Dossier) -> tuple[LocalSource, ...]:
        """All files here with tensors of this model."""
        found = list(dossier.own_sources())
        for entry in await asyncio.to_thread(lambda: list(self._folder.entries())):
            if entry.key.digest != dossier.digest or not entry.is_whole or entry.key.kind == "vocab":
                continue
            if entry.path not in self._sources:
                self.note(entry.path, await self.layout(dossier, entry.key))
            found.append(self._sources[entry.path])
        return tuple(found)

    def note(self, path: Path, layout: Layout) -> None:
        """A shard file lies at `path`, written so."""
        self._sources[path] = shard_source(path, layout)

    async def partial_models(self) -> tuple[Dossier, ...]:
        """Models of which this node has no file of its own, but headers and perhaps shards."""
        whole = {entry.digest for entry in (await self._store.listing()).models}
        found: list[Dossier] = []
        for digest in await asyncio.to_thread(self._store.records.digests):
            if digest in whole:
                continue
            with contextlib.suppress(ModelError, UnknownModel):
                found.append(await self.local(digest))
        return tuple(found)

    async def held_ranges(self, dossier: Dossier) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of the numbers of a model's tensors that are here."""
        return ranges_of(held_tensors(await self.sources(dossier)))

    def origin(self, digest: str) -> bytes:
        """Where the files of a model came from (`pull/origin.py`); no bytes if that is not known."""
        return self._origins.get(digest) or self._store.records.origin(digest)

    def name_of(self, digest: str) -> str:
        """What a model that lies elsewhere was called when it was fetched."""
        return self._store.records.name(digest)

    async def forget(self, digest: str) -> None:
        """Lets go of all that is known of a model; its shards are not here any more."""
        self._sources = {path: source for path, source in self._sources.items() if path.exists()}
        self._dossiers.pop(digest, None)
        await asyncio.to_thread(self._store.records.remove, digest)

    async def _here(self, digest: str) -> Dossier | None:
        entry = await self._store.by_digest(digest)
        if entry is not None:
            return await self._own(entry)
        known = self._dossiers.get(digest)
        if known is None or not known.is_header_only:
            known = await self._recorded(digest)
        if known is not None:
            self._dossiers[digest] = known
        return known

    async def _own(self, entry: ModelEntry) -> Dossier:
        known = self._dossiers.get(entry.digest)
        if known is None or known.paths != entry.paths:
            known = self._dossiers[entry.digest] = await self._store.dossier(entry)
        origin = origin_of(entry.source, entry.paths)
        self._origins[entry.digest] = encode_origin(origin) if origin is not None else b""
        return known

    async def _recorded(self, digest: str) -> Dossier | None:
        manifest = await asyncio.to_thread(self._store.records.manifest, digest)
        headers = manifest and await asyncio.to_thread(self._store.records.headers, manifest, digest)
        if not manifest or not headers:
            return None
        inspection = await self._store.inspector.inspect(headers, is_header_only=True)
        return Dossier(digest, manifest, inspection, headers, True)

    async def _asked(self, digest: str, name: str) -> Dossier:
        """From the first peer that knows the model. What it sends is verified before anything reads it."""
        for _ in range(ASK_TIMES):
            peers = self.peers
            for peer in peers.peers() if peers is not None else ():
                if (dossier := await self._try(peers, peer, digest, name)) is not None:
                    return dossier
            await asyncio.sleep(ASK_AGAIN_S)
        raise ModelError(
            f"This node does not have {name}, and no node that is up does. "
            "Switch on the node that has the model, or pull it here."
        )

    async def _try(self, peers: Peers | None, peer: str, digest: str, name: str) -> Dossier | None:
        if peers is None:
            return None
        try:
            return await self._ask(peers, peer, digest, name)
        except (LinkError, CorruptModel) as error:
            log.info("%s told nothing of use about the model %s: %s", peer[:8], digest[:12], error)
            return None

    async def _ask(self, peers: Peers, peer: str, digest: str, name: str) -> Dossier:
        data = await peers.fetch(peer, encode_question(Question(Wanted.MANIFEST, digest)), MANIFEST_MAX_BYTES)
        manifest = await asyncio.to_thread(decode_manifest, data, digest)
        headers: list[bytes] = []
        for number in range(len(manifest.parts)):
            question = encode_question(Question(Wanted.HEADER, digest, (number,)))
            headers.append(await peers.fetch(peer, question, HEADER_MAX_BYTES))
        origin = await peers.fetch(peer, encode_question(Question(Wanted.ORIGIN, digest)), ORIGIN_MAX_BYTES)
        records = self._store.records
        if decode_origin(origin) is not None:
            await asyncio.to_thread(records.put_origin, digest, origin)
        await asyncio.to_thread(records.put_headers, manifest, digest, headers)
        await asyncio.to_thread(records.put_name, digest, name)
        await asyncio.to_thread(records.put_manifest, manifest)
        try:
            dossier = await self._recorded(digest)
        except ModelError:  # kept, it would be read in vain again and again
            await asyncio.to_thread(records.remove, digest)
            raise
        if dossier is None:
            raise CorruptModel(f"The headers of the model {digest[:12]} cannot be kept. Check this disk.")
        return dossier
