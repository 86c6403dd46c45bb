"""One answer on its way from the daemon to the screen, asked for again if its stages are lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

from peerinfer.errors import ContextExceeded, PeerinferError, QueueFull
from tui.chat.answer import AnswerProgress, RingWatch, broken, instance_of, route
from tui.face import Face
from tui.feed import Contact
from tui.widgets.message import Answer
from tui.words import first_sentence, sentence

HEAL_S: Final = 120.0
"""How long an answer waits for its layers to stand elsewhere: they may have to be fetched first."""
PAUSES_S: Final = (1.0, 3.0, 5.0)
"""Before each new try: a node that is gone counts as unreachable after two seconds, and looks well until then."""


class Asking:
    """Asks, shows, and goes on after a loss."""

    def __init__(
        self, face: Face, body: dict[str, Any], progress: AnswerProgress, watch: RingWatch, shown: Answer
    ) -> None:
        self.progress = progress
        self.shown = shown
        self._face = face
        self._body = body
        self._watch = watch
        self._was_lost = False
        self._news = asyncio.Event()

    def look(self) -> None:
        """Something of the mesh changed: says what happens to the ring meanwhile."""
        self._news.set()
        if happened := self._watch.look(self._face.view.state):
            self.shown.note(happened)

    async def run(self) -> None:
        """Until the answer has ended, failed or was stopped; says so below it."""
        self._face.watchers.append(self.look)
        try:
            self.look()
            await self._until_answered()
            self._foot("as long as it may be" if self.progress.reason == "length" else "")
        except PeerinferError as error:
            self.shown.note(f"{sentence(str(error))} {_advice(error)}")
            self._foot("broken off")
        except asyncio.CancelledError:
            self._foot("stopped")
            raise
        finally:
            self._face.watchers.remove(self.look)
            await self.shown.settle()

    async def _until_answered(self) -> None:
        while True:
            try:
                await self._stream()
                return
            except PeerinferError as error:
                if not error.retryable or not await self._begin_anew(error):
                    raise

    async def _stream(self) -> None:
        async for chunk in self._face.chat(self._body):
            self.progress.take(chunk, time.monotonic())
            if self._was_lost and self.progress.tokens == 1:
                self._was_lost = False
                self.shown.note("The answer goes on.")
            self.shown.show(self.progress.shown)
            self._foot("")

    async def _begin_anew(self, error: PeerinferError) -> bool:
        """Waits until the model stands again; False if it is not worth it, or somebody unloaded it."""
        if not self.progress.begin_anew(time.monotonic()):
            return False
        is_full = isinstance(error, QueueFull)
        if not self._was_lost:
            waits = "It is asked again in a moment." if is_full else "The answer waits for its layers."
            self.shown.note(f"{first_sentence(str(error))} {waits}")
        self._was_lost = not is_full
        await asyncio.sleep(PAUSES_S[min(self.progress.restarts, len(PAUSES_S)) - 1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAL_S):
                while self._trouble() and not self._is_unloaded():
                    self._news.clear()
                    await self._news.wait()
        return not self._trouble()

    def _is_unloaded(self) -> bool:
        is_live = self._face.contact.contact is Contact.LIVE
        return is_live and instance_of(self._face.view.state, str(self._body["model"])) is None

    def _trouble(self) -> str:
        if self._face.contact.contact is not Contact.LIVE:
            return self._face.contact.sentence or "The node does not answer."
        return broken(self._face.view.state, str(self._body["model"]))

    def _foot(self, ending: str) -> None:
        """Through which nodes it runs, its speed, how it ended."""
        self.shown.foot(" · ".join(filter(None, (self._route(), self.progress.speed(), ending))))

    def _route(self) -> str:
        state = self._face.view.state
        instance = instance_of(state, str(self._body["model"]))
        return route(state, instance) if state is not None and instance is not None and instance.stages else ""


def _advice(error: PeerinferError) -> str:
    """What a person can do."""
    return "Ctrl-N begins a new chat." if isinstance(error, ContextExceeded) else "Ctrl-R asks again."
