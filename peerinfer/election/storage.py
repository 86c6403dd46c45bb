"""The promise on disk: the highest ballot that this node granted, in any life."""

from __future__ import annotations

from pathlib import Path

from peerinfer.election.ballot import NO_BALLOT, Ballot
from peerinfer.errors import HomeError
from peerinfer.identity.files import write_private


class PromiseFile:
    """One line, `counter node`, replaced as a whole. `value` is what stands on disk."""

    def __init__(self, path: Path) -> None:
        """Raises `HomeError` if there is a file that cannot be read: a forgotten promise could be given twice."""
        self._path = path
        self.value = _read(path)

    def save(self, ballot: Ballot) -> None:
        """Returns once the ballot is on disk for good. Raises `HomeError`."""
        try:
            write_private(self._path, f"{ballot.counter} {ballot.node}\n".encode("ascii"))
        except OSError as error:
            raise HomeError(
                f"{self._path} cannot be written ({error.strerror}); check the disk and its rights."
            ) from error
        self.value = ballot


def _read(path: Path) -> Ballot:
    try:
        counter, node = path.read_text(encoding="ascii").split()
        return Ballot(int(counter), node)
    except FileNotFoundError:
        return NO_BALLOT
    except (OSError, ValueError) as error:
        raise HomeError(
            f"{path} is damaged ({error}). Stop the other nodes of this mesh, delete the file, and start all again."
        ) from None
