"""Waiting for something that nobody tells of: asked again and again, until a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_S = 0.1
"""Short for a person, and next to nothing for a processor."""


async def until(holds: Callable[[], Awaitable[bool]], deadline_s: float) -> None:
    """Returns when `holds` does. Raises `TimeoutError` after `deadline_s` seconds."""
    async with asyncio.timeout(deadline_s):
        while True:
            if await holds():
                return
            await asyncio.sleep(POLL_S)
