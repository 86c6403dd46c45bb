"""A child's memory limit: by the system where it enforces one, else by a watching thread."""

from __future__ import annotations

import os
import sys
import threading
import time

import psutil

POLL_S = 0.25
OVER_LIMIT_EXIT = 137
"""Exit status of a child that ended itself over its limit (as after a kill by the system)."""


def limit_memory(limit_bytes: int) -> None:
    """Limits this process: Linux by RLIMIT_AS (an allocation fails), others by ending it when RSS is over."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        return
    threading.Thread(target=_watch, args=(limit_bytes,), daemon=True).start()


def _watch(limit_bytes: int) -> None:
    process = psutil.Process()
    while process.memory_info().rss <= limit_bytes:
        time.sleep(POLL_S)
    os._exit(OVER_LIMIT_EXIT)
