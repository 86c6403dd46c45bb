"""The files that stages and tokenizers need, cut from a model here or fetched from peers, and what peers may have.

Everything is named by the model's digest, and every byte is verified before it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peerinfer.clock import Clock
from peerinfer.errors import CorruptModel, LinkError, ModelError, UnknownModel
from peerinfer.models.assembly import Assembly, LocalSource
from peerinfer.models.exchange import Question, Wanted, bits_of, decode_question, encode_question
from peerinfer.models.facts import ModelFacts
from peerinfer.models.fetch import Fetch, Peers
from peerinfer.models.holdings import Dossier, held_tensors, ranges_of, read_chunk, shard_source
from peerinfer.models.manifest import HEADER_MAX_BYTES, MANIFEST_MAX_BYTES, Manifest, decode_manifest, encode_manifest
from peerinfer.models.shard_folder import ShardFolder
from peerinfer.models.shards import ShardKey, embedding_key, stage_key, vocab_key
from peerinfer.models.store import ModelEntry, ModelStore
from peerinfer.models.throttle import Throttle
from peerinfer.net.bulk import Stream

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 … 1."""
ROOM_STEP_BYTES: Final = 64 << 20
PROGRESS_STEP: Final = 0.01
"""Share of the work between two words of progress."""
ASK_AGAIN_S: Final = 1.0
ASK_TIMES: Final = 20
"""For a manifest that no peer gives: links may just be being made after a start."""


@dataclass(frozen=True, slots=True)
class StageFiles:
    """What a stage loads."""

    kind: str
    """`trunk`, `last` or `whole`."""
    shard: Path
    embedding: Path
    """Where a first stage looks tokens up; the shard itself for every other one."""
    facts: ModelFacts


class Warehouse:
    """Shards in `home`, at most `limit_bytes` of them (0: as the disk allows). Files in use are never removed."""

    def __init__(self, home: Path, store: ModelStore, clock: Clock, limit_bytes: int = 0) -> None:
        self._store = store
        self._folder = ShardFolder(home / "shards", limit_bytes)
        self._clock = clock
        self.peers: Peers | None = None
        """How peers are asked, while there is a mesh."""
        self.throttle = Throttle(lambda: False, clock)
        self._turns: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One at a time for each file, and for each model's manifest."""
        self._leases: dict[Hashable, set[Path]] = {}
        self._sources: dict[Path, LocalSource] = {}
        self._dossiers: dict[str, Dossier] = {}

    # ---- for stages and tokenizers

    async def stage_files(
        self,
        holder: Hashable,
        digest: str,
        name: str,
        layers: tuple[int, int],
        progress: Progress,
    ) -> StageFiles:
        """The files of the stage with the layers from the first to before the second, kept until `release(holder)`.

        Cuts or fetches what is not there yet; `name` is for sentences. Raises `ModelError`, `HomeError`.
        """
        dossier = await self.dossier(digest, name)
        facts, first_layer = dossier.facts, layers[0]
        key = stage_key(digest, *layers, facts.n_layers)
        if key.kind == "whole":
            path = dossier.paths[0] if not dossier.is_header_only else await self._shard(dossier, key, holder, progress)
            return StageFiles(key.kind, path, path, facts)
        shard = await self._shard(dossier, key, holder, progress)
        if first_layer > 0:
            return StageFiles(key.kind, shard, shard, facts)
        if dossier.is_header_only:
            table = await self._shard(dossier, embedding_key(digest), holder, lambda _: None)
        else:
            table = dossier.paths[dossier.inspection.embedding_part]
        return StageFiles(key.kind, shard, table, facts)

    async def vocabulary_file(self, digest: str, name: str) -> Path:
        """The file with header and tokenizer of a model. Raises `ModelError`, `HomeError`."""
        dossier = await self.dossier(digest, name)
        return await self._shard(dossier, vocab_key(digest), None, lambda _: None)

    def release(self, holder: Hashable) -> None:
        """The files of this holder may be removed when room is needed."""
        for path in self._leases.pop(holder, ()):
            self._folder.touch(path)

    def in_use(self) -> frozenset[Path]:
        """Files that somebody holds."""
        return frozenset(path for paths in self._leases.values() for path in paths)

    def name_of(self, digest: str) -> str:
        """What a model that lies elsewhere was called when it was fetched."""
        return self._store.records.name(digest)

    def room_bytes(self) -> int:
        """What more could be fetched to this disk; in steps, so that not every file written is news."""
        return self._folder.room_bytes(self.in_use()) // ROOM_STEP_BYTES * ROOM_STEP_BYTES

    def held_bytes(self, digest: str) -> int:
        """What the shards of one model take on the disk."""
        return sum(entry.size_bytes for entry in self._folder.entries() if entry.key.digest == digest)

    async def forget(self, digest: str) -> int:
        """Removes what is here of a model besides its own files, unless it is in use; gives the bytes."""
        freed = await asyncio.to_thread(self._folder.remove, digest, self.in_use())
        self._sources = {path: source for path, source in self._sources.items() if path.exists()}
        self._dossiers.pop(digest, None)
        await asyncio.to_thread(self._store.records.remove, digest)
        return freed

    async def dossier(self, digest: str, name: str) -> Dossier:
        """All about a model: from its files, from what was fetched of it before, or from peers. Raises `ModelError`."""
        async with self._turns[digest]:
            entry = await self._store.by_digest(digest)
            if entry is not None:
                return await self._own(entry)
            known = self._dossiers.get(digest)
            if known is not None and known.is_header_only:
                return known
            self._dossiers[digest] = await self._recorded(digest) or await self._asked(digest, name)
            return self._dossiers[digest]

    # ---- for peers

    def answer(self, peer: str, data: bytes) -> Stream:  # noqa: ARG002  (every member may ask)
        """What a peer gets for its question. Raises `BadFrame`, `UnknownModel`."""
        question = decode_question(data)
        manifest = self._manifest(question.digest)
        match question.wanted:
            case Wanted.MANIFEST:
                content = encode_manifest(manifest)
                return Stream(len(content), _once(content))
            case Wanted.HEADER:
                number = question.numbers[0]
                if number >= len(manifest.parts):
                    raise UnknownModel("There is no such file of this model.")
                return Stream(manifest.parts[number].n_bytes, self._header(question.digest, manifest, number))
            case Wanted.HOLDINGS:
                count = len(manifest.tensor_bytes)
                return Stream(-(-count // 8), self._holdings(question.digest, count))
            case Wanted.CHUNKS:
                if max(question.numbers) >= manifest.n_chunks:
                    raise UnknownModel("There is no such part of this model.")
                size = sum(manifest.chunk(number).n_bytes for number in question.numbers)
                return Stream(size, self._chunks(question, manifest))

    async def _header(self, digest: str, manifest: Manifest, number: int) -> AsyncIterator[bytes]:
        dossier = await self._local(digest)
        n_bytes = manifest.parts[number].n_bytes
        yield await asyncio.to_thread(_first_bytes, dossier.paths[number], n_bytes)

    async def _holdings(self, digest: str, count: int) -> AsyncIterator[bytes]:
        sources = await self._local_sources(await self._local(digest))
        yield bits_of([tensor for tensor in held_tensors(sources) if tensor < count], count)

    async def _chunks(self, question: Question, manifest: Manifest) -> AsyncIterator[bytes]:
        sources = await self._local_sources(await self._local(question.digest))
        for number in question.numbers:
            content = await asyncio.to_thread(read_chunk, manifest, number, sources)
            if content is None:
                raise UnknownModel("This node does not have that part of the model any more.")
            yield content
            await self.throttle.pause(len(content))

    def _manifest(self, digest: str) -> Manifest:
        known = self._dossiers.get(digest)
        manifest = known.manifest if known is not None else self._store.records.manifest(digest)
        if manifest is None:
            raise UnknownModel(f"This node has nothing of the model {digest[:12]}.")
        return manifest

    # ---- dossiers

    async def _own(self, entry: ModelEntry) -> Dossier:
        known = self._dossiers.get(entry.digest)
        if known is None or known.paths != entry.paths:
            known = self._dossiers[entry.digest] = await self._store.dossier(entry)
        return known

    async def partial_models(self) -> tuple[Dossier, ...]:
        """Models of which this node has no file of its own, but headers and perhaps shards."""
        whole = {entry.digest for entry in (await self._store.listing()).models}
        found: list[Dossier] = []
        for digest in await asyncio.to_thread(self._store.records.digests):
            if digest in whole:
                continue
            with contextlib.suppress(ModelError, UnknownModel):
                found.append(await self._local(digest))
        return tuple(found)

    async def held_ranges(self, dossier: Dossier) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of the numbers of a model's tensors that are here."""
        return ranges_of(held_tensors(await self._local_sources(dossier)))

    async def _local(self, digest: str) -> Dossier:
        """What is here. Raises `UnknownModel` if that is nothing."""
        entry = await self._store.by_digest(digest)
        if entry is not None:
            return await self._own(entry)
        known = self._dossiers.get(digest)
        if known is None or not known.is_header_only:
            known = await self._recorded(digest)
        if known is None:
            raise UnknownModel(f"This node has nothing of the model {digest[:12]}.")
        self._dossiers[digest] = known
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
            for peer in self.peers.peers() if self.peers else ():
                try:
                    dossier = await self._ask(peer, digest)
                    await asyncio.to_thread(self._store.records.put_name, digest, name)
                    return dossier
                except (LinkError, CorruptModel):
                    continue
            await asyncio.sleep(ASK_AGAIN_S)
        raise ModelError(
            f"This node does not have {name}, and no node that is up does. "
            "Switch on the node that has the model, or pull it here."
        )

    async def _ask(self, peer: str, digest: str) -> Dossier:
        peers = self.peers
        if peers is None:
            raise ModelError("This node is in no mesh at the moment. Load the model again.")
        data = await peers.fetch(peer, encode_question(Question(Wanted.MANIFEST, digest)), MANIFEST_MAX_BYTES)
        manifest = await asyncio.to_thread(decode_manifest, data, digest)
        headers: list[bytes] = []
        for number in range(len(manifest.parts)):
            question = encode_question(Question(Wanted.HEADER, digest, (number,)))
            headers.append(await peers.fetch(peer, question, HEADER_MAX_BYTES))
        await asyncio.to_thread(self._store.records.put_headers, manifest, digest, headers)
        await asyncio.to_thread(self._store.records.put_manifest, manifest)
        dossier = await self._recorded(digest)
        if dossier is None:
            raise CorruptModel(f"The headers of the model {digest[:12]} cannot be kept. Check this disk.")
        return dossier

    # ---- shards

    async def _shard(self, dossier: Dossier, key: ShardKey, holder: Hashable, progress: Progress) -> Path:
        """The path of the shard `key`, made unless it is there, and leased to `holder` (unless that is None)."""
        final = self._folder.file(key)
        async with self._turns[key]:
            lease = self._leases.setdefault(holder, set()) if holder is not None else set[Path]()
            lease.add(final)
            layout = await self._store.inspector.layout(dossier.paths, key, is_header_only=dossier.is_header_only)
            if not await asyncio.to_thread(_has_size, final, layout.n_bytes):
                await asyncio.to_thread(self._folder.make_room, key, layout.n_bytes, self.in_use())
                await self._make(Assembly(final, layout, dossier.manifest), dossier, progress)
            self._folder.touch(final)
            self._sources[final] = shard_source(final, layout)
            return final

    async def _make(self, assembly: Assembly, dossier: Dossier, progress: Progress) -> None:
        loop = asyncio.get_running_loop()

        shown = 0.0

        def told() -> None:
            nonlocal shown
            if assembly.share >= shown + PROGRESS_STEP:
                shown = assembly.share
                progress(shown)

        def told_in_thread() -> None:
            loop.call_soon_threadsafe(told)

        try:
            await asyncio.to_thread(assembly.open, told_in_thread)
            for source in await self._local_sources(dossier):
                if assembly.missing and source.path != assembly.final:
                    await asyncio.to_thread(assembly.fill, source, told_in_thread)
            if assembly.missing:
                await self._fetch(assembly, dossier, told)
            await asyncio.to_thread(assembly.finish)
        finally:
            assembly.close()

    async def _fetch(self, assembly: Assembly, dossier: Dossier, told: Callable[[], None]) -> None:
        if not dossier.is_header_only:
            raise ModelError(f"{dossier.paths[0].name} was damaged or replaced while it was in use. Fetch it again.")
        if self.peers is None:
            raise ModelError("Parts of this model are missing here, and this node is in no mesh. Load it again.")
        fetch = Fetch(
            assembly,
            dossier.manifest,
            dossier.digest,
            self.peers,
            clock=self._clock,
            told=told,
            pause=self.throttle.pause,
        )
        await fetch.run(self.name_of(dossier.digest))

    async def _local_sources(self, dossier: Dossier) -> tuple[LocalSource, ...]:
        """All files here with tensors of this model."""
        sources = list(dossier.own_sources())
        for entry in await asyncio.to_thread(lambda: list(self._folder.entries())):
            if entry.key.digest != dossier.digest or not entry.is_whole or entry.key.kind == "vocab":
                continue
            known = self._sources.get(entry.path)
            if known is None:
                layout = await self._store.inspector.layout(
                    dossier.paths, entry.key, is_header_only=dossier.is_header_only
                )
                known = self._sources[entry.path] = shard_source(entry.path, layout)
            sources.append(known)
        return tuple(sources)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _first_bytes(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n_bytes)


def _has_size(path: Path, n_bytes: int) -> bool:
    try:
        return path.stat().st_size == n_bytes
    except OSError:
        return False
