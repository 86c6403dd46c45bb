"""Private files: folders 0700, files 0600, and writes that leave the old or the new content, whatever happens."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from peerinfer.errors import HomeError, HomeNotOurs


def private_folder(path: Path) -> None:
    """Makes `path` a folder that only this user may open. Raises `HomeNotOurs` if it belongs to somebody else.

    On Windows the folder inherits the rights of the user's profile, which nobody else may read.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform != "win32":
            status = path.stat()
            if status.st_uid != os.getuid():
                raise HomeNotOurs(
                    f"The folder {path} belongs to another user. Give peerinfer a folder of your own with --home."
                )
            if status.st_mode & 0o077:
                path.chmod(0o700)
    except PermissionError:
        raise HomeNotOurs(
            f"The folder {path} may not be used by this user. Give peerinfer a folder of your own with --home."
        ) from None
    except OSError as error:
        raise HomeError(
            f"The folder {path} cannot be made ({error}). Give peerinfer another one with --home."
        ) from None


def write_private(path: Path, data: bytes) -> None:
    """Replaces the content of `path`, mode 0600, durably: on return it survives a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new name in a folder is durable only after the folder is. Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
