"""One node: identity and model files that stay, and the session of the mesh it is in at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from peerinfer.clock import monotonic
from peerinfer.config import NodeConfig
from peerinfer.errors import PortInUse, Unavailable
from peerinfer.identity.storage import Identity
from peerinfer.models.pull.pull import PullDesk
from peerinfer.models.store import ModelStore
from peerinfer.models.warehouse import Warehouse
from peerinfer.node.policy import PolicyDesk
from peerinfer.node.session import MeshSession
from peerinfer.pipeline.requests import Answer, ChatRequest


class Node:
    """From `start` to `stop`. It is the API's `ChatService`, since sessions come and go beneath it."""

    def __init__(self, config: NodeConfig) -> None:
        """Raises `HomeError` if the identity or the settings in the home cannot be used."""
        self.config = config
        self.identity = Identity.open(config.home, config.name)
        self.store = ModelStore(config.home)
        self.warehouse = Warehouse(config.home, self.store, monotonic, config.shards_limit_bytes)
        self.pulls = PullDesk()
        self.policy = PolicyDesk(config.home)
        self._session: MeshSession | None = None
        self._port = config.listen.port
        self._switching = asyncio.Lock()

    @property
    def session(self) -> MeshSession:
        """The session at work. Raises `Unavailable` while the node moves between meshes."""
        if self._session is None:
            raise Unavailable("This node is just moving between meshes. Try again in a moment.")
        return self._session

    async def start(self) -> None:
        """Listens for peers and looks for them. Raises `PortInUse` or `ConfigInvalid`."""
        await asyncio.to_thread(self.warehouse.tidy)
        await self._begin(())

    async def stop(self) -> None:
        """Ends the session."""
        async with self._switching:
            await self.pulls.stop()
            await self._end()
            await self.store.stop()

    async def change_membership(self, addresses: Sequence[str] = ()) -> None:
        """The identity now is that of another mesh: a new session, which dials `addresses` first."""
        async with self._switching:
            await self._end()
            try:
                await self._begin(addresses)
            except PortInUse:  # taken in between: a node on another port is better than none
                self._port = 0
                await self._begin(addresses)

    async def open(self, request: ChatRequest) -> Answer:
        """`ChatService.open` of the session at work."""
        return await self.session.gateway.open(request)

    async def _begin(self, addresses: Sequence[str]) -> None:
        session = MeshSession(self.config, self.identity, self.store, self.warehouse, self.policy)
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
