"""A node's home folder: made private, held by one daemon at a time, with the record of the one that runs."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from peerinfer.api.record import DaemonRecord, ensure_token, remove_record, write_record
from peerinfer.errors import ConfigInvalid, HomeError, HomeInUse, HomeNotOurs

LOCK_FILE = "lock"
LOCK_BYTE = 1 << 20
"""Windows locks bytes against reading too, so the byte that is locked lies behind the pid that others may read."""


class Home:
    """A home folder held by this process from `open` to `close` (or for the length of a `with`)."""

    def __init__(self, path: Path, lock: IO[str], token: str) -> None:
        self.path = path
        self.token = token
        """Bearer token of the local API: 64 hexadecimal characters."""
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Home:
        """Makes the folder if need be and takes its lock.

        Raises `HomeInUse` (with the holder's pid), `HomeNotOurs`, `ConfigInvalid` (not a folder) or `HomeError`.
        """
        path = path.expanduser().absolute()
        prepare_home(path)
        lock = _take_lock(path)
        try:
            remove_record(path)
            return cls(path, lock, ensure_token(path))
        except OSError as error:
            lock.close()
            raise HomeError(f"{path} cannot be written to: {error.strerror or error}.") from None

    def announce(self, api: str, node: str, version: str) -> None:
        """Tells local programs where this daemon's API answers (`host:port`)."""
        write_record(self.path, DaemonRecord(os.getpid(), api, node, version))

    def close(self) -> None:
        """Withdraws the record and frees the lock; a second call does nothing."""
        if self._lock.closed:
            return
        remove_record(self.path)
        self._lock.close()

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prepare_home(path: Path) -> None:
    """Makes `path` a folder that its owner alone can open. Raises as `Home.open`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except (FileExistsError, NotADirectoryError):
        raise ConfigInvalid(f"{path} is not a folder: choose another one with --home.") from None
    except OSError as error:
        raise HomeNotOurs(
            f"{path} cannot be used as a home folder: {error.strerror or error}. Choose another one with --home."
        ) from None
    if sys.platform == "win32":  # the user profile's access list already keeps others out
        return
    if facts.st_uid != os.getuid():
        raise HomeNotOurs(
            f"{path} belongs to another user (uid {facts.st_uid}): choose a folder of your own with --home."
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        path.chmod(0o700)


def _take_lock(home: Path) -> IO[str]:
    """The open lock file; its lock lives as long as it stays open, and ends with this process."""
    path = home / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeError(f"{path} cannot be opened: {error.strerror or error}.") from None
    file = os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")
    if not _try_lock(file):
        holder = file.read(20).strip() or "unknown"
        file.close()
        raise HomeInUse(
            f"A peerinfer daemon (pid {holder}) already runs on {home}. "
            "Stop it with `peerinfer down`, or choose another folder with --home."
        )
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def _try_lock(file: IO[Any]) -> bool:
    """Takes the lock of an open file unless another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415  (exists on Windows only)

            file.seek(LOCK_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl  # noqa: PLC0415  (exists on Unix only)

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if sys.platform == "win32":
            file.seek(0)
        return False
    return True
