"""The app as its screens know it: the view of the mesh, the daemon to call, and what any screen can ask for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, cast

from textual.app import App
from textual.dom import DOMNode
from textual.message import Message
from textual.timer import Timer

from peerinfer.api.client import ApiClient
from peerinfer.errors import PeerinferError
from tui.feed import Connection, Feed
from tui.mesh.told import Told
from tui.mesh.view import MeshView
from tui.words import sentence

REDRAW_S: Final = 0.2
"""Between two redraws, whatever the rate of events: quick to the eye, and a fraction of a core with a large mesh."""
CHAT: Final = "chat"
"""The mode of the chat."""


class MeshChanged(Message):
    """Something of the mesh changed. Only the newest stays queued: one redraw shows all that was folded by then."""

    bubble = False

    def can_replace(self, message: Message) -> bool:
        """See `Message`."""
        return isinstance(message, MeshChanged)


class Face(App[None]):
    """What screens may rely on."""

    def __init__(self, home: Path, options: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.home = home
        self.options = options
        """Of `peerinfer up`, for a node that must be started."""
        self.view = MeshView()
        self.chosen = ""
        """The instance that is looked at; empty takes any."""
        self.chat_model = ""
        """The model that the chat asks; empty for the one that is loaded."""
        self.watchers: list[Callable[[], None]] = []
        """Told of each change of the mesh, whatever screen is in front."""
        self._redraw: Timer | None = None
        self.feed = Feed(home, self.view, self.mesh_moved)

    @property
    def contact(self) -> Connection:
        """How this terminal stands to the daemon."""
        return self.feed.connection

    async def act(self, action: str, body: dict[str, Any] | None = None) -> Told:
        """A short action of the daemon, over a connection of its own. Raises what the daemon raised."""
        async with ApiClient(self.home) as client:
            return await client.act(action, body)

    async def follow(self, action: str, body: dict[str, Any]) -> AsyncGenerator[Told]:
        """A long action, over a connection of its own: the feed's ends when the node goes to another mesh."""
        async with ApiClient(self.home) as client:
            async for message in client.follow(action, body):
                yield message

    async def chat(self, body: dict[str, Any]) -> AsyncGenerator[Told]:
        """The chunks of an answer."""
        async with ApiClient(self.home) as client:
            async for chunk in client.chat(body):
                yield chunk

    def mesh_moved(self) -> None:
        """Something new was folded: one redraw for all that comes within `REDRAW_S`."""
        if self._redraw is None and self.is_running:
            self._redraw = self.set_timer(REDRAW_S, self._post_change)

    def _post_change(self) -> None:
        self._redraw = None
        self.post_message(MeshChanged())

    def complain(self, error: Exception) -> None:
        """Shows what went wrong."""
        self.notify(sentence(str(error)), severity="error", markup=False, timeout=8)

    def tell(self, text: str) -> None:
        """Shows what was done."""
        self.notify(sentence(text), markup=False)

    def talk(self, *, model: str) -> None:
        """Opens the chat with a model."""
        self.chat_model = model
        self.switch_mode(CHAT)

    def in_background(self, work: Callable[[], Coroutine[Any, Any, None]], group: str) -> None:
        """Runs `work`, one of a group at a time; what goes wrong is shown."""

        async def run() -> None:
            try:
                await work()
            except PeerinferError as error:
                self.complain(error)

        self.run_worker(run, group=group, exclusive=True)


def face_of(node: DOMNode) -> Face:
    """The app of a screen or widget."""
    return cast(Face, node.app)
