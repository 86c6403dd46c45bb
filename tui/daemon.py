"""Starts the daemon as a process of its own: the terminal face never runs one inside itself."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from peerinfer.errors import HomeError

START_S: Final = 90.0
"""The command itself gives up earlier, with a sentence."""
SENTENCE_MAX: Final = 2000
BY_HAND: Final = "Run `peerinfer up --headless` to see why."
COMMAND: Final = (sys.executable, "-P", "-m", "peerinfer", "up", "--background")


async def start_daemon(home: Path, options: Sequence[str] = (), command: Sequence[str] = COMMAND) -> str:
    """Starts the daemon of `home` in the background, with `options` of `peerinfer up`. Returns what it says.

    Raises `HomeError` with the reason.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            "--home",
            str(home),
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise HomeError(f"The node cannot be started: {error.strerror or error}.") from None
    try:
        async with asyncio.timeout(START_S):
            said, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise HomeError(f"The node did not start within {START_S:.0f} seconds. {BY_HAND}") from None
    text = said.decode("utf-8", "replace").strip()[-SENTENCE_MAX:]
    if process.returncode != 0:
        raise HomeError(text.removeprefix("peerinfer: ") or f"The node did not start. {BY_HAND}")
    return text
