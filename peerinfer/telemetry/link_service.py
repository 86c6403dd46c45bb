"""The door of link measurement: runs the prober over the switchboard, and tells the figures."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

from peerinfer.clock import Clock, monotonic_us
from peerinfer.errors import LinkError
from peerinfer.net.messages import encode
from peerinfer.net.probe_messages import CHUNK_BYTES, ProbeAsk, ProbeChunk, ProbeReady, ProbeResult
from peerinfer.net.switchboard import Switchboard
from peerinfer.telemetry.links import LinkBook, LinkRate
from peerinfer.telemetry.prober import Effect, Prober, SendBurst

TICK_S: Final = 0.25


class LinkService:
    """Measures the links of one node. `is_busy` says whether requests run here."""

    def __init__(self, switchboard: Switchboard, is_busy: Callable[[], bool], clock: Clock) -> None:
        self._switchboard = switchboard
        self._is_busy = is_busy
        self._clock = clock
        self._book = LinkBook()
        self._prober = Prober(self._book)
        self._noise = os.urandom(CHUNK_BYTES)  # nothing on the way can make it smaller
        self._burst: asyncio.Task[None] | None = None
        for kind in (ProbeAsk, ProbeReady, ProbeChunk, ProbeResult):
            switchboard.on(kind, self._received)
        switchboard.on_peer(self._peer)

    async def run(self) -> None:
        """Measures until cancelled."""
        try:
            while True:
                peers = self._switchboard.peers()
                self._do(self._prober.tick(peers, self._clock(), is_busy=self._is_busy()))
                await asyncio.sleep(TICK_S)
        finally:
            if self._burst is not None:
                self._burst.cancel()

    def told(self) -> tuple[LinkRate, ...]:
        """The links of this node as others shall hear of them."""
        peers = self._switchboard.peers()
        rtt_us = {node: facts.rtt_high_us for node, facts in peers.items() if facts.rtt_high_us is not None}
        return self._book.told(rtt_us, self._clock())

    def _peer(self, node: str, up: bool) -> None:
        if up:
            self._prober.soon(node, self._clock())

    def _received(self, sender: str, message: object) -> None:
        if sender != self._switchboard.own_id:
            self._do(self._prober.receive(sender, message, monotonic_us(), is_busy=self._is_busy()))

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, SendBurst):
                if self._burst is None or self._burst.done():  # the prober has one probe under way at a time
                    self._burst = asyncio.get_running_loop().create_task(self._send(effect))
                continue
            with contextlib.suppress(LinkError):  # the probe ends by its own time-out
                self._switchboard.send(effect.node, effect.message)

    async def _send(self, burst: SendBurst) -> None:
        left = burst.size_bytes
        with contextlib.suppress(LinkError):
            while left > 0:
                size = min(left, CHUNK_BYTES)
                left -= size
                chunk = ProbeChunk(burst.number, left == 0, self._noise[:size])
                await self._switchboard.send_frame(burst.to, (encode(chunk),))
