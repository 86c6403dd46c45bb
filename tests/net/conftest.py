"""The loops on which links must work: asyncio's own, and uvloop where it exists."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

LoopFactories = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> LoopFactories:
    """Runs the tests of live links on both loops, all others of this folder on asyncio's."""
    factories: LoopFactories = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ("test_links.py", "test_renewal.py") and sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
