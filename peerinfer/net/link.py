"""One link with one peer: what is sent and received over it once hello and ack have passed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from peerinfer.errors import BadFrame, LinkDown
from peerinfer.net.frames import FRAME_MAX_BYTES, is_frame
from peerinfer.net.link_messages import Goodbye, GoodbyeReason, Hello, Ping, Pong
from peerinfer.net.messages import decode, encode
from peerinfer.net.peer_clock import PeerClock
from peerinfer.net.send_queue import SendQueue
from peerinfer.net.wire import Wire

HEARTBEAT_S: Final = 0.5
"""Four beats fit into the 2 s after which a peer counts as unreachable."""
SILENCE_MAX_S: Final = 10.0
"""A peer that said nothing for so long is gone; its link is closed so that a new one can take its place."""
LATE_S: Final = 2.0
"""A heartbeat that runs so much too late says that this machine stood still; then nobody is accused of silence."""
STALL_MAX_S: Final = 10.0
"""A frame that finds no room for so long means that the peer has stopped reading."""
PROOF_TIMEOUT_S: Final = 1.0
"""For a ping that asks whether the peer is still there, when a second connection wants to take the link's place."""

ClockUs = Callable[[], int]
"""Gives microseconds on a monotonic clock."""

log = logging.getLogger(__name__)


class Receiver(Protocol):
    """Who takes what a link receives, in order, without waiting."""

    def take_frame(self, sender: str, data: bytes) -> None:
        """Takes a tensor frame as it came."""
        ...

    def take_message(self, sender: str, message: object) -> None:
        """Takes a decoded control message."""
        ...


class Link:
    """A live connection with `peer`. `run` serves it; when `run` returns, it has ended and `ended` says why."""

    def __init__(
        self, wire: Wire, peer: Hello, address: str, dialled: bool, receiver: Receiver, *, clock_us: ClockUs
    ) -> None:
        self.peer = peer
        self.address = address
        """Where the peer takes links, as `ip:port`."""
        self.dialled = dialled
        self.timing = PeerClock()
        self.bytes_sent = 0
        self.bytes_received = 0
        self.ended: str | None = None
        """Why the link is closing or closed, as a sentence; None while it lives."""
        self._wire = wire
        self._receiver = receiver
        self._clock_us = clock_us
        self._heard_us = clock_us()
        self._queue = SendQueue()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._data_turn = asyncio.Lock()
        self._answered = asyncio.Event()

    @property
    def last_heard(self) -> float:
        """When the peer was last heard, in seconds of this node's monotonic clock."""
        return self._heard_us / 1e6

    def send(self, message: object) -> None:
        """Sends a control message now, or queues it ahead of all data. Raises `LinkDown`."""
        self._require_live()
        data = encode(message)
        if not self._queue.control_waits and not self._wire.paused:
            self._write(data)
        elif self._queue.put_control(data):
            self._wake.set()
        else:
            sentence = f"{self._name} does not take its messages, and too many wait: the link is closed."
            self.close(GoodbyeReason.STALLED, sentence)
            raise LinkDown(sentence)

    def try_send_frame(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Sends a frame if that needs no waiting, else does nothing and says false. Raises as `send_frame`."""
        self._require_live()
        if self._queue or self._data_turn.locked() or self._wire.paused:
            return False
        self._write(_joined(parts))
        return True

    async def send_frame(self, parts: Sequence[bytes | memoryview]) -> None:
        """Sends the tensor frame made of `parts`; waits while the data lane is full. Raises `LinkDown`, `BadFrame`.

        Several parts are joined, which is the frame's one copy here; a single `bytes` is not copied.
        """
        if self.try_send_frame(parts):
            return
        data = _joined(parts)
        try:
            async with asyncio.timeout(STALL_MAX_S), self._data_turn:
                await self._room_for(len(data))
        except TimeoutError:
            sentence = f"{self._name} took no data for {STALL_MAX_S:g} s: the link is closed."
            self.close(GoodbyeReason.STALLED, sentence)
            raise LinkDown(sentence) from None
        self._require_live()
        self._queue.put_data(data)
        self._wake.set()

    def close(self, reason: GoodbyeReason, sentence: str) -> None:
        """Begins to end the link, telling the peer why; `run` returns soon after."""
        if self.ended is not None:
            return
        with contextlib.suppress(LinkDown):
            self._wire.write(encode(Goodbye(reason, sentence)))
        self._end(sentence)

    async def proves_alive(self) -> bool:
        """Whether the peer answers a ping within `PROOF_TIMEOUT_S`."""
        self._answered.clear()
        try:
            self._ping()
            async with asyncio.timeout(PROOF_TIMEOUT_S):
                await self._answered.wait()
        except (TimeoutError, LinkDown):
            return False
        return self.ended is None

    async def run(self) -> None:
        """Serves the link until it ends; its wire is closed by whoever opened it."""
        work = [asyncio.create_task(part()) for part in (self._receive, self._send_queued, self._beat)]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._end(f"The link with {self._name} has ended.")
            for task in work:
                task.cancel()
            results = await asyncio.gather(*work, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                log.error("The link with %s failed.", self._name, exc_info=result)

    @property
    def _name(self) -> str:
        return f"{self.peer.name or 'the peer'} ({self.peer.node[:8]})"

    def _require_live(self) -> None:
        if self.ended is not None:
            raise LinkDown(self.ended)

    def _end(self, sentence: str) -> None:
        if self.ended is None:
            self.ended = sentence
        self._wake.set()
        self._room.set()

    def _write(self, data: bytes) -> None:
        try:
            self._wire.write(data)
        except LinkDown as error:
            self._end(str(error))
            raise
        self.bytes_sent += len(data)

    async def _room_for(self, n_bytes: int) -> None:
        while self.ended is None and not self._queue.has_room_for(n_bytes):
            self._room.clear()
            await self._room.wait()

    async def _send_queued(self) -> None:
        while self.ended is None:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and self.ended is None:
                await self._wire.drained()  # first wait, then choose: control that came meanwhile goes ahead
                try:
                    self._write(self._queue.pop())
                except LinkDown:
                    return
                self._room.set()

    async def _receive(self) -> None:
        try:
            while self.ended is None and (data := await self._wire.receive()) is not None:
                self._heard_us = self._clock_us()
                self.bytes_received += len(data)
                if is_frame(data):
                    self._receiver.take_frame(self.peer.node, data)
                elif not self._take_own(message := decode(data)):
                    self._receiver.take_message(self.peer.node, message)
        except BadFrame as error:
            log.warning("%s sent something invalid, so its link is closed: %s", self._name, error)
            self.close(GoodbyeReason.BROKEN, str(error))
        self._end(f"{self._name} closed the connection.")

    def _take_own(self, message: object) -> bool:
        """Handles the link's own messages; false for all others."""
        match message:
            case Ping(sent_us):
                with contextlib.suppress(LinkDown):  # then `run` is ending already
                    self.send(Pong(sent_us, self._clock_us()))
            case Pong(sent_us, answered_us):
                if self.timing.answered(sent_us, answered_us, self._heard_us):
                    self._answered.set()
            case Goodbye(_, sentence):
                self._end(f"{self._name} ended the link: {sentence[:300]}")
            case _:
                return False
        return True

    def _ping(self) -> None:
        now_us = self._clock_us()
        self.timing.pinged(now_us)
        self.send(Ping(now_us))

    async def _beat(self) -> None:
        """Pings, and ends a link that has been silent too long."""
        silent_since_us = due_us = self._clock_us()
        while self.ended is None:
            now_us = self._clock_us()
            if now_us - due_us > LATE_S * 1e6:
                silent_since_us = now_us
            if now_us - max(self._heard_us, silent_since_us) > SILENCE_MAX_S * 1e6:
                self.close(GoodbyeReason.STALLED, f"{self._name} was silent for {SILENCE_MAX_S:g} s.")
                return
            try:
                self._ping()
            except LinkDown:
                return
            due_us = now_us + int(HEARTBEAT_S * 1e6)
            await asyncio.sleep(HEARTBEAT_S)


def _joined(parts: Sequence[bytes | memoryview]) -> bytes:
    data = b"".join(parts)
    if len(data) > FRAME_MAX_BYTES:
        raise BadFrame(f"A tensor frame of {len(data)} bytes is over the limit; send fewer tokens at once.")
    return data
