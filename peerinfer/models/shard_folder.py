"""The folder of shard files: how much of the disk it takes, and what goes first when room is needed. Blocks."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peerinfer.errors import DiskFull
from peerinfer.models.assembly import PARTIAL_SUFFIX, partial_path
from peerinfer.models.atomic import DISK_RESERVE_BYTES, check_room
from peerinfer.models.shards import WRITER_VERSION, ShardKey, key_of

FILES_MAX: Final = 65_536
"""Files looked at; a home has a few for each model."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A shard file, whole or in the making."""

    key: ShardKey
    path: Path
    size_bytes: int
    """On the disk, which is less than its length while it has holes."""
    used_ns: int
    """When it was last used."""
    is_whole: bool


class ShardFolder:
    """Shard files in `path`, which together take no more than `limit_bytes` (0: as much as the disk has)."""

    def __init__(self, path: Path, limit_bytes: int = 0) -> None:
        self.path = path
        self.limit_bytes = limit_bytes

    def file(self, key: ShardKey) -> Path:
        """Where a shard lies, or would."""
        return self.path / key.file_name

    def entries(self) -> Iterator[ShardEntry]:
        """All shard files of this writer's version."""
        for number, path in enumerate(self._files()):
            if number >= FILES_MAX:
                return
            is_whole = not path.name.endswith(PARTIAL_SUFFIX)
            key = key_of(path.name if is_whole else path.name[1:].removesuffix(PARTIAL_SUFFIX))
            if key is None or key.writer_version != WRITER_VERSION:
                continue
            with contextlib.suppress(OSError):
                status = path.stat()
                blocks: int = getattr(status, "st_blocks", 0)
                taken = min(status.st_size, blocks * 512) if blocks else status.st_size
                yield ShardEntry(key, path, taken, status.st_mtime_ns, is_whole)

    def touch(self, path: Path) -> None:
        """Notes that a shard is used now."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def make_room(
        self, key: ShardKey, n_bytes: int, in_use: Collection[Path], growing: Mapping[Path, int] | None = None
    ) -> None:
        """Makes room for the shard `key` of `n_bytes`: what was used longest ago goes, never what is `in_use`.

        `growing` tells what other partial files will take, which have room reserved so.
        Raises `DiskFull`, before anything is removed, if that would not be enough.
        """
        kept = {*in_use, self.file(key), partial_path(self.file(key))}
        entries = list(self.entries())
        there = sum(entry.size_bytes for entry in entries if entry.path == partial_path(self.file(key)))
        sizes = {entry.path: entry.size_bytes for entry in entries}
        reserved = sum(max(0, will - sizes.get(path, 0)) for path, will in (growing or {}).items())
        missing = self._missing(n_bytes - there + reserved, sum(sizes.values()))
        spare = sorted(
            (entry for entry in entries if entry.path not in kept and entry.key.kind != "vocab"),
            key=lambda entry: entry.used_ns,
        )
        going: list[ShardEntry] = []
        while missing > 0 and spare:
            going.append(spare.pop(0))
            missing -= going[-1].size_bytes
        if missing > 0:
            self._refuse(n_bytes)
        for entry in going:
            entry.path.unlink(missing_ok=True)
        check_room(self.path, max(0, n_bytes - there + reserved), "A shard")

    def room_bytes(self, in_use: Collection[Path]) -> int:
        """What could be written here, if all that is not in use went."""
        entries = list(self.entries())
        spare = sum(entry.size_bytes for entry in entries if entry.path not in in_use and entry.key.kind != "vocab")
        try:
            free = shutil.disk_usage(self.path).free
        except OSError:
            free = shutil.disk_usage(self.path.parent).free
        room = free + spare - DISK_RESERVE_BYTES
        if self.limit_bytes:
            room = min(room, self.limit_bytes - sum(entry.size_bytes for entry in entries) + spare)
        return max(0, room)

    def remove(self, digest: str, in_use: Collection[Path]) -> int:
        """Removes all shards of one model but those `in_use`; gives the bytes that became free."""
        freed = 0
        for entry in list(self.entries()):
            if entry.key.digest == digest and entry.path not in in_use:
                entry.path.unlink(missing_ok=True)
                freed += entry.size_bytes
        return freed

    def sweep(self) -> None:
        """Removes what an older peerinfer wrote in its own way, which nothing reads any more."""
        for path in list(self._files()):
            key = key_of(path.name)
            if (key is None and not path.name.endswith(PARTIAL_SUFFIX)) or (
                key and key.writer_version == WRITER_VERSION
            ):
                continue
            partial = key_of(path.name[1:].removesuffix(PARTIAL_SUFFIX))
            if key is not None or partial is None or partial.writer_version != WRITER_VERSION:
                with contextlib.suppress(OSError):  # there is another start
                    path.unlink(missing_ok=True)

    def _missing(self, n_bytes: int, taken: int) -> int:
        """Bytes that must become free."""
        over_limit = taken + n_bytes - self.limit_bytes if self.limit_bytes else 0
        self.path.mkdir(parents=True, exist_ok=True)
        over_disk = n_bytes + DISK_RESERVE_BYTES - shutil.disk_usage(self.path).free
        return max(over_limit, over_disk, 0)

    def _refuse(self, n_bytes: int) -> None:
        limit = f", and shards may take {self.limit_bytes / 1e9:.1f} GB" if self.limit_bytes else ""
        free = shutil.disk_usage(self.path).free
        raise DiskFull(
            f"A shard of {n_bytes / 1e6:.0f} MB does not fit the disk of {self.path}: {free / 1e6:.0f} MB are "
            f"free{limit}, and what else lies there is in use. Free some space, or unload another model."
        )

    def _files(self) -> Iterator[Path]:
        try:
            yield from (path for path in sorted(self.path.iterdir()) if path.is_file())
        except OSError:
            return
