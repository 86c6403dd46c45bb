"""The daemon's main: starts a node on its home, says where it is, and stops it when asked or signalled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

from peerinfer.api.actions import LoadWish
from peerinfer.config import NodeConfig
from peerinfer.errors import PeerinferError
from peerinfer.node.home import Home
from peerinfer.node.node import Node

log = logging.getLogger(__name__)


async def serve(config: NodeConfig) -> None:
    """Runs a node until `down`, SIGTERM or cancellation. Raises a `HomeError` if it cannot start."""
    with Home.open(config.home) as home:
        node = Node(config, home)
        await node.start()
        with contextlib.suppress(NotImplementedError):  # Windows ends a process outright; `down` is its gentle way
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, node.down.set)
        log.info(
            "%s (%s) is up: API on http://%s, peers on port %d.",
            node.identity.name,
            node.identity.node_id[:8],
            node.api_address,
            node.session.port,
        )
        loading = asyncio.create_task(_load(node, config.model)) if config.model else None
        try:
            await node.down.wait()
        finally:
            if loading is not None:
                loading.cancel()
            await node.stop()
            log.info("Stopped.")
            sys.stderr.flush()


async def _load(node: Node, model: str) -> None:
    try:
        await node.actions.load(LoadWish(model), lambda _: None)
    except PeerinferError as error:
        log.error("%s could not be loaded: %s", model, error)
