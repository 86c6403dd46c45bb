"""The incarnation on disk: a count of this node's starts, so that peers tell a new snapshot from a replayed one."""

from __future__ import annotations

from pathlib import Path

from peerinfer.errors import HomeError
from peerinfer.identity.files import write_private


class Incarnation:
    """A durable counter, one higher at each start. An unreadable file starts at 1: peers then say what they know."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.value = _read(path) + 1
        self._save()

    def save(self, value: int) -> None:
        """This node goes on as `value`: it met a newer snapshot of itself, or woke after a farewell.

        The file never goes back. Raises `HomeError`.
        """
        self.value = max(self.value, value)
        self._save()

    def _save(self) -> None:
        """Puts the value on disk before anybody is told of it. Raises `HomeError`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._path, f"{self.value}\n".encode("ascii"))
        except OSError as error:
            raise HomeError(
                f"{self._path} cannot be written ({error.strerror}); check the disk and its rights."
            ) from error


def _read(path: Path) -> int:
    try:
        return max(0, int(path.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return 0
