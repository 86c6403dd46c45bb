"""The child of an import: reads the folder that nobody vouches for, writes the GGUF file. Killed to cancel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from peerinfer.models.mlx_import.calls import MESSAGE_MAX_BYTES, Progressed, Wanted
from peerinfer.models.mlx_import.conversion import convert
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.process.inside import Emit, Part

EVENT_PAUSE_S: Final = 0.2
"""Between two events of progress: often enough for an eye, next to nothing for the daemon."""


class ImportService:
    """Answers the one call."""

    def __call__(self, kind: int, body: memoryview, emit: Emit) -> Sequence[Part]:  # noqa: ARG002
        """Converts a model; see `convert` for errors."""
        wanted = unpack_fields(Wanted, unpack(body, MESSAGE_MAX_BYTES))
        next_s = 0.0

        def tell(progress: Progressed) -> None:
            nonlocal next_s
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + EVENT_PAUSE_S
                emit(pack(pack_fields(progress)))

        return [pack(pack_fields(convert(Path(wanted.folder), Path(wanted.file), tell)))]


def open_service() -> ImportService:
    """The service of a fresh child."""
    return ImportService()
