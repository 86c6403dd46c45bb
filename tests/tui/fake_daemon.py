"""A home with a real API server around a node in memory, as the terminal face meets it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import peerinfer
from peerinfer.api.events import EventReader
from peerinfer.api.record import DaemonRecord, ensure_token, remove_record, write_record
from peerinfer.api.server import ApiServer
from peerinfer.config import Listen
from peerinfer.control.chronicle import Chronicle
from peerinfer.control.events import ClusterEvent
from peerinfer.control.state import ClusterState
from peerinfer.pipeline.requests import ChatRequest
from tests.api.fakes import FakeAnswer, FakeChat, FakeNode


class AnyChat(FakeChat):
    """Has every model."""

    async def open(self, request: ChatRequest) -> FakeAnswer:
        self.requests.append(request)
        asked = len(self.requests)
        try:
            return await super().open(replace(request, model=""))
        finally:
            del self.requests[asked:]


class FakeDaemon:
    """Answers on a free port, and leaves the record by which it is found."""

    def __init__(self, home: Path, state: ClusterState, version: str = peerinfer.__version__) -> None:
        self.home = home
        self.node = FakeNode(chronicle=Chronicle(state))
        self.chat = AnyChat()
        self._version = version
        self._token = ensure_token(home)
        self._server: ApiServer | None = None

    def tell(self, *events: ClusterEvent) -> None:
        """Has the mesh change."""
        self.node.chronicle.record(events)

    @property
    def readers(self) -> list[EventReader]:
        """Those who follow its events now."""
        return list(self._server.events.readers) if self._server is not None else []

    async def start(self) -> None:
        """Listens, and says where."""
        self._server = ApiServer(Listen("127.0.0.1", 0), self._token, self.chat, self.node)
        await self._server.start()
        record = DaemonRecord(os.getpid(), self._server.address, self.node.chronicle.state.node, self._version)
        write_record(self.home, record)

    async def stop(self) -> None:
        """Goes away."""
        remove_record(self.home)
        if self._server is not None:
            await self._server.stop()

    async def __aenter__(self) -> FakeDaemon:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
