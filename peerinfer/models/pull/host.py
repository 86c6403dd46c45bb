"""The daemon's side of a pull's child: starts it, hears its progress, kills it when the pull is cancelled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from peerinfer.errors import (
    AccessDenied,
    BadRequest,
    ChildDied,
    CorruptModel,
    DiskFull,
    HomeError,
    PeerinferError,
    ProcessError,
    PullFailed,
    UnknownModel,
)
from peerinfer.models.pull.calls import Fetched, Progress, call_of, unpack_fetched, unpack_progress
from peerinfer.models.pull.reference import FileReference, HubReference, WebReference
from peerinfer.process.child import CallFailed, Child

MEMORY_BYTES: Final = 2 << 30
"""Address space of a pull's child: it holds pieces of files only, and a hub's answer without end is stopped here."""
MODULE: Final = "peerinfer.models.pull.worker"

_KINDS: dict[str, type[PeerinferError]] = {
    kind.code: kind for kind in (AccessDenied, BadRequest, CorruptModel, DiskFull, HomeError, PullFailed, UnknownModel)
}


async def fetch_in_child(
    reference: HubReference | WebReference | FileReference, folder: Path, progress: Callable[[Progress], None]
) -> Fetched:
    """Fetches what `reference` names. Cancelling kills the child; what came is gone on from by the next pull.

    Raises what `worker.py` raises there, and `PullFailed` if the child itself fails.
    """

    def event(body: bytes) -> None:
        with contextlib.suppress(ValueError):
            progress(unpack_progress(body))

    try:
        child = await Child.start(MODULE, "pull", memory_limit_bytes=MEMORY_BYTES, on_event=event)
        try:
            kind, body = call_of(reference, str(folder))
            # No deadline: a large model takes hours. Whatever the child waits for has a limit of its own.
            return unpack_fetched(await child.post(kind, body))
        finally:
            await child.stop(grace_s=0.0)
    except CallFailed as error:
        kind = _KINDS.get(error.code_text)
        raise kind(str(error)) if kind else PullFailed(f"The pull failed: {error}") from None
    except ChildDied as error:
        raise PullFailed(f"{error} Pull again to go on.") from None
    except (ProcessError, ValueError) as error:
        raise PullFailed(f"The pull failed: {error}") from None
