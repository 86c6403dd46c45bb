"""Tools of the system that a probe asks: by their full paths, with a time limit, never through a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 2.0
"""They answer in milliseconds; a hung one is ended."""
OUTPUT_MAX: Final = 1 << 20
"""Characters that are looked at."""


def output_of(*command: str) -> str:
    """What a tool prints; empty where it is missing, fails or hangs."""
    if not Path(command[0]).exists():
        return ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout[:OUTPUT_MAX] if done.returncode == 0 else ""
