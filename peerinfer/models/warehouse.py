"""The files that stages and tokenizers need, cut from a model here or fetched from peers, and what peers may have.

Everything is named by the model's digest, and every byte is verified before it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peerinfer.clock import Clock
from peerinfer.errors import ModelError
from peerinfer.models.assembly import Assembly, partial_path
from peerinfer.models.atomic import keep_newest, remove_leftovers
from peerinfer.models.facts import ModelFacts
from peerinfer.models.fetch import Fetch
from peerinfer.models.giving import Giver
from peerinfer.models.holdings import Dossier
from peerinfer.models.known import file_state
from peerinfer.models.library import Library
from peerinfer.models.origin_peer import OriginPeer
from peerinfer.models.pull.origin import decode_origin
from peerinfer.models.shard_folder import ShardFolder
from peerinfer.models.shards import ShardKey, embedding_key, stage_key, vocab_key
from peerinfer.models.store import ModelStore
from peerinfer.models.throttle import Throttle

log = logging.getLogger(__name__)

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 … 1."""
ROOM_STEP_BYTES: Final = 8 << 20
PROGRESS_STEP: Final = 0.01
"""Share of the work between two words of progress."""
FINGERPRINTS_MAX: Final = 256
"""Of stages, 60 kB each at the most: a home has loaded so many in years."""
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
    record: Path
    """Where the fingerprint of the stage is kept, for the parity check of engines."""


class Warehouse:
    """Shards in `home`, at most `limit_bytes` of them (0: as the disk allows). Files in use are never removed."""

    def __init__(self, home: Path, store: ModelStore, clock: Clock, limit_bytes: int = 0) -> None:
        self._store = store
        self._folder = ShardFolder(home / "shards", limit_bytes)
        self._fingerprints = home / "fingerprints"
        self._clock = clock
        self.library = Library(store, self._folder)
        self.throttle = Throttle(lambda: False, clock)
        self._turns: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One at a time for each file."""
        self._making: dict[Path, int] = {}
        """The partial files that grow now, and what they will take."""
        self._sound: dict[Path, tuple[int, int]] = {}
        """Size and inode of the shards that were made or verified in this life of the process."""
        self._leases: dict[Hashable, set[Path]] = {}
        self.giver = Giver(self.library, lambda: self.throttle)

    def tidy(self) -> None:
        """Removes what a process that was killed, or an older peerinfer, left. Blocks; for the start."""
        self._folder.sweep()
        keep_newest(self._fingerprints, FINGERPRINTS_MAX)
        with contextlib.suppress(OSError):  # whoever needs it says so
            self._store.models_folder.mkdir(parents=True, exist_ok=True)
        for folder in (self._store.models_folder, self._store.records.folder):
            remove_leftovers(folder)

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
        dossier = await self.library.dossier(digest, name)
        facts, first_layer = dossier.facts, layers[0]
        key = stage_key(digest, *layers, facts.n_layers)
        record = self._fingerprints / f"{key.file_name}.json"
        if key.kind == "whole":
            path = dossier.paths[0] if not dossier.is_header_only else await self._shard(dossier, key, holder, progress)
            return StageFiles(key.kind, path, path, facts, record)
        shard = await self._shard(dossier, key, holder, progress)
        if first_layer > 0:
            return StageFiles(key.kind, shard, shard, facts, record)
        if dossier.is_header_only:
            table = await self._shard(dossier, embedding_key(digest), holder, lambda _: None)
        else:
            table = dossier.paths[dossier.inspection.embedding_part]
        return StageFiles(key.kind, shard, table, facts, record)

    async def vocabulary_file(self, digest: str, name: str) -> Path:
        """The file with header and tokenizer of a model. Raises `ModelError`, `HomeError`."""
        there = self._folder.file(vocab_key(digest))
        if there in self._sound and await asyncio.to_thread(there.is_file):
            return there  # whatever became of the model's file since
        dossier = await self.library.dossier(digest, name)
        return await self._shard(dossier, vocab_key(digest), None, lambda _: None)

    def release(self, holder: Hashable) -> None:
        """The files of this holder may be removed when room is needed."""
        for path in self._leases.pop(holder, ()):
            self._folder.touch(path)

    def in_use(self) -> frozenset[Path]:
        """Files that somebody holds."""
        held = [path for paths in self._leases.values() for path in paths]
        return frozenset((*held, *map(partial_path, held)))

    def room_bytes(self) -> int:
        """What more could be fetched to this disk; in steps, so that not every file written is news."""
        return self._folder.room_bytes(self.in_use()) // ROOM_STEP_BYTES * ROOM_STEP_BYTES

    def held_bytes(self, digest: str) -> int:
        """What the shards of one model take on the disk."""
        return sum(entry.size_bytes for entry in self._folder.entries() if entry.key.digest == digest)

    async def forget(self, digest: str) -> int:
        """Removes what is here of a model besides its own files, unless it is in use; gives the bytes."""
        freed = await asyncio.to_thread(self._folder.remove, digest, self.in_use())
        await self.library.forget(digest)
        return freed

    async def _shard(self, dossier: Dossier, key: ShardKey, holder: Hashable, progress: Progress) -> Path:
        """The path of the shard `key`, made unless it is there, and leased to `holder` (unless that is None)."""
        final = self._folder.file(key)
        async with self._turns[key]:
            lease = self._leases.setdefault(holder, set()) if holder is not None else set[Path]()
            lease.add(final)
            layout = await self.library.layout(dossier, key)
            if not await asyncio.to_thread(self._is_sound, final, layout.n_bytes):
                await self._make(Assembly(final, layout, dossier.manifest), key, dossier, progress)
            self._folder.touch(final)
            self.library.note(final, layout)
            return final

    def _is_sound(self, final: Path, n_bytes: int) -> bool:
        """Whether a shard is there that was made or verified in this life of the process, and has not changed since."""
        try:
            state = file_state(final)
        except OSError:
            return False
        return state.size_bytes == n_bytes and self._sound.get(final) == (state.size_bytes, state.inode)

    async def _make(self, assembly: Assembly, key: ShardKey, dossier: Dossier, progress: Progress) -> None:
        loop = asyncio.get_running_loop()

        shown = 0.0

        def told() -> None:
            nonlocal shown
            if assembly.share >= shown + PROGRESS_STEP:
                shown = assembly.share
                progress(shown)

        def told_in_thread() -> None:
            loop.call_soon_threadsafe(told)

        partial = partial_path(assembly.final)
        others = dict(self._making)
        self._making[partial] = assembly.n_bytes
        try:
            await asyncio.to_thread(self._folder.make_room, key, assembly.n_bytes, self.in_use(), others)
            if await asyncio.to_thread(assembly.final.exists):  # from an earlier life: a disk may have damaged it
                await asyncio.to_thread(assembly.take_back)
            await _to_its_end(assembly, assembly.open, told_in_thread)
            for source in await self.library.sources(dossier):
                if assembly.missing and source.path != assembly.final:
                    await _to_its_end(assembly, assembly.fill, source, told_in_thread)
            if assembly.missing:
                await self._fetch(assembly, dossier, told)
            await _to_its_end(assembly, assembly.finish)
            state = await asyncio.to_thread(file_state, assembly.final)
            self._sound[assembly.final] = (state.size_bytes, state.inode)
        finally:
            assembly.close()
            self._making.pop(partial, None)

    async def _fetch(self, assembly: Assembly, dossier: Dossier, told: Callable[[], None]) -> None:
        if not dossier.is_header_only:
            raise ModelError(f"{dossier.paths[0].name} was damaged or replaced while it was in use. Fetch it again.")
        peers = self.library.peers
        if peers is None:
            raise ModelError("Parts of this model are missing here, and this node is in no mesh. Load it again.")
        origin = decode_origin(await asyncio.to_thread(self.library.origin, dossier.digest))
        hub = OriginPeer(dossier, origin) if origin and len(origin.files) == len(dossier.manifest.parts) else None
        fetch = Fetch(
            assembly,
            dossier.manifest,
            dossier.digest,
            peers,
            origin=hub,
            clock=self._clock,
            told=told,
            pause=self.throttle.pause,
        )
        began, missing = self._clock(), assembly.missing_bytes
        try:
            await fetch.run(self.library.name_of(dossier.digest))
        finally:
            if hub is not None:
                await hub.close()
        took_s = max(self._clock() - began, 1e-3)
        log.info(
            "Fetched %.1f MB of %s in %.2f s (%.0f MB/s).",
            missing / 1e6,
            self.library.name_of(dossier.digest),
            took_s,
            missing / 1e6 / took_s,
        )


async def _to_its_end(assembly: Assembly, work: Callable[..., object], *arguments: object) -> None:
    """Does `work` on `assembly` in a thread; if cancelled, not before the thread has let go of the file."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        assembly.close()
        await asyncio.wait([task])
        task.exception()  # that of a file that was closed under it
        raise
