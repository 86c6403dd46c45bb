"""One node from start to stop: home, identity, local API, and the session of the mesh it is in at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import peerinfer
from peerinfer.api.server import ApiServer
from peerinfer.config import NodeConfig
from peerinfer.errors import Unavailable
from peerinfer.identity.storage import Identity
from peerinfer.models.store import ModelStore
from peerinfer.node.actions import Actions
from peerinfer.node.home import Home
from peerinfer.node.session import MeshSession
from peerinfer.pipeline.requests import Answer, ChatRequest


class Node:
    """See `start`. It is also the API's `ChatService`, since sessions come and go beneath it."""

    def __init__(self, config: NodeConfig, home: Home) -> None:
        self.config = config
        self.home = home
        self.identity = Identity.open(config.home, config.name)
        self.store = ModelStore(config.home)
        self.down = asyncio.Event()
        """Set when somebody asked the daemon to stop."""
        self.actions = Actions(self)
        self._api = ApiServer(config.api, home.token, self, self.actions, hosts=config.api_hosts)
        self._session: MeshSession | None = None
        self._port = config.listen.port
        self._switching = asyncio.Lock()

    @property
    def session(self) -> MeshSession:
        """The session at work. Raises `Unavailable` while the node moves between meshes."""
        if self._session is None:
            raise Unavailable("This node is just moving between meshes. Try again in a moment.")
        return self._session

    @property
    def api_address(self) -> str:
        """`host:port` of the API."""
        return self._api.address

    async def start(self) -> None:
        """Listens for peers and local programs. Raises a `HomeError` if a port or the home cannot be used."""
        try:
            await self._begin(())
            await self._api.start()
        except BaseException:
            await self.stop()
            raise
        self.home.announce(self._api.address, self.identity.node_id, peerinfer.__version__)

    async def stop(self) -> None:
        """Ends everything in the order of use: requests, pairing, session."""
        await self._api.stop()
        await self.actions.close()
        await self._end()

    async def change_membership(self, addresses: Sequence[str] = ()) -> None:
        """The identity now is that of another mesh: a new session, which dials `addresses` first."""
        async with self._switching:
            await self._end()
            await self._begin(addresses)
        self.home.announce(self._api.address, self.identity.node_id, peerinfer.__version__)

    async def open(self, request: ChatRequest) -> Answer:
        """`ChatService.open` of the session at work."""
        return await self.session.gateway.open(request)

    async def _begin(self, addresses: Sequence[str]) -> None:
        session = MeshSession(self.config, self.identity, self.store)
        try:
            await session.start(self._port, addresses)
        except BaseException:
            await session.stop()
            raise
        self._session, self._port = session, session.port

    async def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.stop()
