"""The intents on disk: what people asked for, so that it is loaded again after a reboot."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast

from peerinfer.control.intents import INTENTS_MAX, STATEMENT_MAX_BYTES
from peerinfer.errors import HomeError
from peerinfer.identity.files import write_private
from peerinfer.packing import pack, unpack

FILE_MAX_BYTES: Final = INTENTS_MAX * (STATEMENT_MAX_BYTES + 16)
"""A full book."""

log = logging.getLogger(__name__)


class IntentFile:
    """msgpack `[mesh id, [statement, …]]`, replaced as a whole. Another mesh's intents are not read."""

    def __init__(self, path: Path, mesh_id: str) -> None:
        self._path = path
        self._mesh_id = mesh_id

    def load(self) -> tuple[bytes, ...]:
        """The statements of the last `save`. A damaged file is left aside: the other nodes tell what it said."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise HomeError(f"{self._path} cannot be read ({error.strerror}); check its rights.") from None
        try:
            mesh_id, statements = cast(tuple[object, list[object]], unpack(data, FILE_MAX_BYTES))
            return tuple(one for one in statements if isinstance(one, bytes)) if mesh_id == self._mesh_id else ()
        except (ValueError, TypeError) as error:
            log.warning("%s is damaged (%s); what was loaded is learnt from the other nodes.", self._path, error)
            return ()

    def save(self, statements: Iterable[bytes]) -> None:
        """Returns once they are on disk for good. Raises `HomeError`."""
        try:
            write_private(self._path, pack([self._mesh_id, list(statements)]))
        except OSError as error:
            raise HomeError(
                f"{self._path} cannot be written ({error.strerror}); check the disk and its rights."
            ) from error
