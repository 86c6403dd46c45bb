"""The daemon's side of an import: the name of the new file, and the child that writes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from peerinfer.errors import BadRequest, ModelError, PeerinferError, ProcessError, error_from_code
from peerinfer.models.atomic import remove_leftovers
from peerinfer.models.mlx_import.calls import CONVERT, MESSAGE_MAX_BYTES, Converted, Progressed, Wanted
from peerinfer.models.parts import part_name
from peerinfer.models.pull.reference import safe_segment
from peerinfer.models.shelf import model_name, shown
from peerinfer.net.messages import pack_fields, unpack_fields
from peerinfer.packing import pack, unpack
from peerinfer.process.child import CallFailed, Child

MEMORY_BYTES: Final = 4 << 30
"""Address space of the child: numpy alone reserves over 1 GiB, the largest tokenizer takes 0.5 GiB as Python objects,
and each of eight threads has some 30 MB of numbers in hand."""
MODULE: Final = "peerinfer.models.mlx_import.worker"


def target_of(name: str, models_folder: Path) -> Path:
    """The file of a model that is to be called `name`. Raises `BadRequest` for what is no name, or is taken."""
    file_name = f"{model_name(name)}.gguf"
    if file_name.startswith((".", "-")) or not safe_segment(file_name) or part_name(file_name) is not None:
        raise BadRequest(f"{shown(name)!r} cannot be the name of a model. Give a plain one with --name.")
    target = models_folder / file_name
    if target.exists():
        raise BadRequest(
            f"There is a model {model_name(name)} here already. Give another name with --name, or remove that one."
        )
    return target


async def convert_in_child(folder: Path, target: Path, progress: Callable[[Progressed], None]) -> Converted:
    """Converts the model in `folder` to the file `target`. Cancelling kills the child, and leaves nothing behind.

    Raises what `convert` raises there, and `ModelError` if the child itself fails.
    """

    def event(body: bytes) -> None:
        with contextlib.suppress(ValueError, PeerinferError):
            progress(unpack_fields(Progressed, unpack(body, MESSAGE_MAX_BYTES)))

    done = False
    try:
        child = await Child.start(MODULE, "import", memory_limit_bytes=MEMORY_BYTES, on_event=event)
        try:
            wanted = pack(pack_fields(Wanted(str(folder), str(target))))
            # No deadline: a large model takes many minutes, and a person waits who can end it. All reading is bounded.
            answer = await child.post(CONVERT, wanted)
            converted = unpack_fields(Converted, unpack(answer, MESSAGE_MAX_BYTES))
            done = True
            return converted
        finally:
            await child.stop(grace_s=0.0)
    except CallFailed as error:
        raise _failure(error) from None
    except (ProcessError, ValueError) as error:
        raise ModelError(f"The import failed: {error} Try again.") from None
    finally:
        if not done:
            await asyncio.to_thread(_clear, target)


def _clear(target: Path) -> None:
    """A child that was killed could not clear up behind itself, or had just finished."""
    remove_leftovers(target.parent)
    target.unlink(missing_ok=True)


def _failure(error: CallFailed) -> PeerinferError:
    known = error_from_code(error.code_text, str(error))
    return ModelError(f"The import failed: {error}") if type(known) is PeerinferError else known
