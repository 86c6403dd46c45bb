"""Files that appear under their name only when they are whole and on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from peerinfer.errors import DiskFull, HomeError

DISK_RESERVE_BYTES = 64 << 20
"""Left free on the disk, so that a write of ours does not stop the rest of the system."""

_RUN = secrets.token_hex(4)
"""Tells the partial files of this process from those of an earlier one that had the same process id."""
_PARTIAL = re.compile(r"\..+\.(\d+)-([0-9a-f]{8})-[0-9a-f]{8}\.partial")


@contextmanager
def replacing(final: Path) -> Generator[Path]:
    """Yields the path of a partial file beside `final`; at the end it is synced to disk and renamed to `final`.

    If the block fails, the partial file is removed and `final` is what it was. Writers of the same name do not
    disturb each other: each has its own partial file, and the last to finish wins. Raises `DiskFull` or `HomeError`.
    """
    partial = final.with_name(f".{final.name}.{os.getpid()}-{_RUN}-{secrets.token_hex(4)}.partial")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        replace_file(partial, final)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk became full while {final.name} was written. Free some space.") from None
        where = final.parent
        raise HomeError(
            f"{final.name} cannot be written ({error.strerror}). Check the permissions of {where}."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes partial files in `folder` whose writing process is gone."""
    for path in folder.glob(".*.partial"):
        match = _PARTIAL.fullmatch(path.name)
        if match is None or match[2] == _RUN:
            continue
        writer = int(match[1])
        if writer == os.getpid() or not psutil.pid_exists(writer):
            path.unlink(missing_ok=True)


def keep_newest(folder: Path, most: int) -> None:
    """Removes the oldest files of a folder beyond `most`."""
    with contextlib.suppress(OSError):  # what cannot be removed is looked at again at the next start
        by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in by_age[most:]:
            path.unlink(missing_ok=True)


def check_room(folder: Path, n_bytes: int, name: str) -> None:
    """Raises `DiskFull` unless `folder`, which is made if needed, has room for `n_bytes` more and the reserve."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise HomeError(f"The folder {folder} cannot be used ({error.strerror}). Check its permissions.") from None
    if n_bytes + DISK_RESERVE_BYTES > free:
        raise DiskFull(
            f"{name} needs {n_bytes / 1e6:.0f} MB on the disk of {folder}, which has {free / 1e6:.0f} MB free. "
            f"Free some space; {DISK_RESERVE_BYTES / 1e6:.0f} MB always stay free."
        )


def replace_file(partial: Path, final: Path) -> None:
    """Gives `partial` the name `final`, in place of whatever had it. Raises `OSError`."""
    try:
        os.replace(partial, final)
    except PermissionError:
        # Windows does not replace a file that is in use; then another writer of the same content was first.
        if os.name != "nt" or not final.exists():
            raise
