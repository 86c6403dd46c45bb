"""An answer at its gateway: tokens come in from the ring, text goes out to one reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from peerinfer.clock import Clock
from peerinfer.engine.pieces import PieceTable, TextDecoder
from peerinfer.errors import PeerinferError, StageLost, error_from_code
from peerinfer.pipeline.messages import Ended, Token
from peerinfer.pipeline.requests import Delta
from peerinfer.pipeline.stops import StopFinder

CREDITS = 64
"""Tokens that the ring may be ahead of the reader."""
GRANT = 16
"""Credits are given back in portions, so that not every token costs a message."""
SILENCE_MAX_S = 180.0
"""No token for so long means that the ring is lost, even if no link says so."""
EVENTS_MAX = 4 * CREDITS
"""Events that wait for the reader; credits keep it far below, so more is a fault of the ring."""


class LiveAnswer:
    """See `requests.Answer`. `grant(n)` and `stop()` reach the first stage; `done()` is called once at the end."""

    def __init__(
        self,
        request_id: str,
        model: str,
        prompt: tuple[int, ...],
        *,
        table: PieceTable,
        stops: tuple[str, ...],
        clock: Clock,
    ) -> None:
        self.request_id = request_id
        self.model = model
        self.prompt_token_ids = prompt
        self.grant: Callable[[int], None] = _nothing
        self.stop: Callable[[], None] = _nothing
        self.done: Callable[[], None] = _nothing
        self._decoder = TextDecoder(table)
        self._stops = StopFinder(stops)
        self._clock = clock
        self._tokens: list[int] = []
        self._events: asyncio.Queue[Token | Ended] = asyncio.Queue()
        self._next_index = 0
        self._ended = False
        self._submitted = clock()
        self._first_at = 0.0
        self._last_at = 0.0

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens so far."""
        return tuple(self._tokens)

    @property
    def ttft_ms(self) -> float:
        """Milliseconds to the first token."""
        return max(0.0, self._first_at - self._submitted) * 1000

    @property
    def tokens_per_s(self) -> float:
        """Speed after the first token."""
        span = self._last_at - self._first_at
        return (len(self._tokens) - 1) / span if span > 0 and len(self._tokens) > 1 else 0.0

    def receive(self, event: Token | Ended) -> None:
        """Takes what the ring says. Doubles are dropped; a gap breaks the answer off."""
        if self._ended:
            return
        if isinstance(event, Token):
            if event.index < self._next_index:
                return
            if event.index > self._next_index or self._events.qsize() >= EVENTS_MAX:
                self.break_off("stage_lost", "A part of the answer was lost on its way. Send the request again.")
                return
            self._next_index += 1
            self._last_at = self._clock()
            if event.index == 0:
                self._first_at = self._last_at
            self._ended = bool(event.finish)
        else:
            self._ended = True
        self._events.put_nowait(event)

    def break_off(self, code: str, reason: str) -> None:
        """Ends the answer with an error of our own finding, and frees its slot."""
        if not self._ended:
            self._ended = True
            self._events.put_nowait(Ended(self.request_id, code, reason))
            self.stop()

    async def cancel(self) -> None:
        """Frees everything; see `requests.Answer`."""
        if not self._ended:
            self._ended = True
            self.stop()
        self.done()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """The pieces of the answer."""
        consumed = 0
        try:
            while True:
                event = await self._next()
                if isinstance(event, Ended):
                    raise _broken(event)
                delta = self._delta(event)
                yield delta
                if delta.finish is not None:
                    return
                consumed += 1
                if consumed % GRANT == 0:
                    self.grant(GRANT)
        finally:
            await self.cancel()

    async def _next(self) -> Token | Ended:
        try:
            async with asyncio.timeout(SILENCE_MAX_S):
                return await self._events.get()
        except TimeoutError:
            raise StageLost(f"No token came for {SILENCE_MAX_S:.0f} s. Send the request again.") from None

    def _delta(self, event: Token) -> Delta:
        self._tokens.append(event.token)
        text = self._stops.feed(self._decoder.feed(event.token))
        finish = event.finish or None
        if finish is not None and not self._stops.found:
            text += self._stops.feed(self._decoder.finish()) + self._stops.finish()
        if self._stops.found:
            finish = "stop"
        return Delta(text, (event.token,), finish)


def _broken(event: Ended) -> PeerinferError:
    if event.code == "cancelled":
        return StageLost(event.reason)
    return error_from_code(event.code, event.reason)


def _nothing(*_: object) -> None:
    """Stands in until the gateway has wired an answer."""
