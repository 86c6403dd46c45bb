"""The daemon: a node on its home with its local API, from its start until it is asked or signalled to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

import peerinfer
from peerinfer.api.actions import LoadWish
from peerinfer.api.server import ApiServer
from peerinfer.config import NodeConfig
from peerinfer.errors import PeerinferError
from peerinfer.node.actions import Actions
from peerinfer.node.home import Home
from peerinfer.node.node import Node

log = logging.getLogger(__name__)


class Daemon:
    """Node, actions and API on one home."""

    def __init__(self, config: NodeConfig, home: Home) -> None:
        self.node = Node(config)
        self.down = asyncio.Event()
        """Set when somebody asked the daemon to stop."""
        self._home = home
        self.actions = Actions(self.node, self.down.set, self._announce)
        self.api = ApiServer(config.api, home.token, self.node, self.actions, hosts=config.api_hosts)

    async def start(self) -> None:
        """Listens for peers and local programs. Raises a `HomeError` if a port or the home cannot be used."""
        try:
            await self.node.start()
            await self.api.start()
        except BaseException:
            await self.stop()
            raise
        self._announce()

    async def stop(self) -> None:
        """Ends everything in the order of use: requests, pairing, session."""
        await self.api.stop()
        await self.actions.close()
        await self.node.stop()

    def _announce(self) -> None:
        """Tells local programs where the API is, and who this node is now."""
        self._home.announce(self.api.address, self.node.identity.node_id, peerinfer.__version__)


async def serve(config: NodeConfig) -> None:
    """Runs a daemon until `down`, SIGTERM or cancellation. Raises a `HomeError` if it cannot start."""
    with Home.open(config.home) as home:
        daemon = Daemon(config, home)
        await daemon.start()
        with contextlib.suppress(NotImplementedError):  # Windows ends a process outright; `down` is its gentle way
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, daemon.down.set)
        identity, port = daemon.node.identity, daemon.node.session.port
        log.info(
            "%s (%s) is up: API on http://%s, peers on port %d.",
            identity.name,
            identity.node_id[:8],
            daemon.api.address,
            port,
        )
        loading = asyncio.create_task(_load(daemon, config.model)) if config.model else None
        try:
            await daemon.down.wait()
        finally:
            if loading is not None:
                loading.cancel()
            await daemon.stop()
            log.info("Stopped.")


async def _load(daemon: Daemon, model: str) -> None:
    try:
        await daemon.actions.load(LoadWish(model), lambda _: None)
    except PeerinferError as error:
        log.error("%s could not be loaded: %s", model, error)
