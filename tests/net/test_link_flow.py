"""What a link does when its peer is slow, silent or strange, over a wire that the test holds in its hand."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from peerinfer.errors import BadFrame, LinkDown
from peerinfer.net import link as link_module
from peerinfer.net.frames import FRAME_MAX_BYTES
from peerinfer.net.link import Link
from peerinfer.net.link_messages import Goodbye, GoodbyeReason, Hello, HelloAck, Ping, Pong
from peerinfer.net.messages import decode, encode
from peerinfer.net.send_queue import CONTROL_MAX_MESSAGES, DATA_MAX_FRAMES
from peerinfer.net.wire import Wire
from tests.net.mesh import MESH, node_id, until

PEER = node_id(2)


class HeldWire:
    """A wire whose pauses and incoming messages the test decides."""

    def __init__(self) -> None:
        self.paused = False
        self.written: list[bytes] = []
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._drained = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def drained(self) -> None:
        while self.paused:
            self._drained.clear()
            await self._drained.wait()

    def resume(self) -> None:
        self.paused = False
        self._drained.set()

    async def receive(self) -> bytes | None:
        return await self.incoming.get()

    @property
    def said(self) -> list[object]:
        """What was written, without heartbeats, messages decoded."""
        decoded = [data if data[0] == 0x80 else decode(data) for data in self.written]
        return [item for item in decoded if not isinstance(item, Ping)]


class Heard:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.items: list[object] = []

    def take_frame(self, sender: str, data: bytes) -> None:
        self.items.append(data)

    def take_message(self, sender: str, message: object) -> None:
        self.items.append(message)


class Served:
    """A link being served over a held wire."""

    def __init__(self) -> None:
        self.wire = HeldWire()
        self.heard = Heard()
        self.now_us = 0
        hello = Hello(1, MESH, PEER, 1, "Ada", 8643)
        self.link = Link(
            cast(Wire, cast(Any, self.wire)), hello, "192.0.2.7:8643", True, self.heard, clock_us=lambda: self.now_us
        )
        self.task = asyncio.create_task(self.link.run())

    async def over(self) -> str:
        await asyncio.wait_for(self.task, 5)
        assert self.link.ended is not None
        return self.link.ended


@pytest.fixture
async def served():
    served = Served()
    await asyncio.sleep(0)
    yield served
    served.task.cancel()
    await asyncio.gather(served.task, return_exceptions=True)


def frame(n: int) -> bytes:
    return b"\x80" + n.to_bytes(4, "big")


async def test_what_nothing_is_ahead_of_is_written_at_once(served: Served):
    served.link.send(HelloAck(1))
    assert served.link.try_send_frame([frame(1)])
    await served.link.send_frame([b"\x80", b"parts", memoryview(b"joined")])
    assert served.wire.said == [HelloAck(1), frame(1), b"\x80partsjoined"]


async def test_control_overtakes_data_and_each_keeps_its_order(served: Served):
    served.wire.paused = True
    await served.link.send_frame([frame(1)])
    await served.link.send_frame([frame(2)])
    served.link.send(HelloAck(1))
    served.link.send(HelloAck(2))
    assert not served.link.try_send_frame([frame(9)])
    assert served.wire.said == []
    served.wire.resume()
    await until(lambda: len(served.wire.said) == 4)
    assert served.wire.said == [HelloAck(1), HelloAck(2), frame(1), frame(2)]


async def test_a_full_data_lane_makes_senders_wait_in_order(served: Served):
    served.wire.paused = True
    for n in range(DATA_MAX_FRAMES):
        await served.link.send_frame([frame(n)])
    waiting = [
        asyncio.create_task(served.link.send_frame([frame(n)])) for n in range(DATA_MAX_FRAMES, DATA_MAX_FRAMES + 3)
    ]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    served.wire.resume()
    await asyncio.gather(*waiting)
    await until(lambda: len(served.wire.said) == DATA_MAX_FRAMES + 3)
    assert served.wire.said == [frame(n) for n in range(DATA_MAX_FRAMES + 3)]


async def test_a_sender_that_gives_up_waiting_leaves_no_gap(served: Served):
    served.wire.paused = True
    for n in range(DATA_MAX_FRAMES):
        await served.link.send_frame([frame(n)])
    given_up = asyncio.create_task(served.link.send_frame([frame(100)]))
    patient = asyncio.create_task(served.link.send_frame([frame(101)]))
    await asyncio.sleep(0.01)
    given_up.cancel()
    served.wire.resume()
    await patient
    await until(lambda: served.wire.said[-1:] == [frame(101)])
    assert frame(100) not in served.wire.said


async def test_a_peer_that_takes_no_data_loses_its_link(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "STALL_MAX_S", 0.02)
    served.wire.paused = True
    for n in range(DATA_MAX_FRAMES):
        await served.link.send_frame([frame(n)])
    with pytest.raises(LinkDown, match="took no data"):
        await served.link.send_frame([frame(99)])
    assert "took no data" in await served.over()
    with pytest.raises(LinkDown):
        await served.link.send_frame([frame(99)])


async def test_too_many_waiting_messages_close_the_link(served: Served):
    served.wire.paused = True
    for _ in range(CONTROL_MAX_MESSAGES):
        served.link.send(HelloAck(1))
    with pytest.raises(LinkDown, match="too many wait"):
        served.link.send(HelloAck(1))
    assert "too many wait" in await served.over()
    assert isinstance(served.wire.said[-1], Goodbye)


async def test_a_frame_over_the_limit_is_refused_and_the_link_lives(served: Served):
    with pytest.raises(BadFrame, match="over the limit"):
        await served.link.send_frame([b"\x80", bytes(FRAME_MAX_BYTES)])
    assert served.link.ended is None


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x00garbage", b"\x92\x7f\x01", bytes(range(256))])
async def test_garbage_ends_the_link_with_a_reason(served: Served, garbage: bytes):
    served.wire.incoming.put_nowait(encode(HelloAck(3)))
    served.wire.incoming.put_nowait(garbage)
    await served.over()
    goodbye = served.wire.said[-1]
    assert isinstance(goodbye, Goodbye)
    assert goodbye.reason == GoodbyeReason.BROKEN
    assert served.heard.items == [HelloAck(3)]


async def test_a_ping_is_answered_with_both_stamps(served: Served):
    served.now_us = 77
    served.wire.incoming.put_nowait(encode(Ping(-3)))
    await until(lambda: served.wire.said)
    assert served.wire.said == [Pong(-3, 77)]
    assert served.link.last_heard == 77e-6


async def test_a_goodbye_ends_the_link_and_its_sentence_is_kept(served: Served):
    served.wire.incoming.put_nowait(encode(Goodbye("a word of the future", "Good night.")))
    served.wire.incoming.put_nowait(encode(HelloAck(3)))
    assert "Good night." in await served.over()
    assert served.heard.items == []


async def test_ten_seconds_of_silence_end_the_link(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.001)
    await until(lambda: len(served.wire.written) > 0)
    for _ in range(12):
        served.now_us += 900_000
        before = len(served.wire.written)
        await until(lambda before=before: served.task.done() or len(served.wire.written) > before)
    assert "silent" in await served.over()


async def test_a_machine_that_stood_still_accuses_nobody(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.001)
    await until(lambda: len(served.wire.written) > 0)
    served.now_us += 3_600_000_000
    before = len(served.wire.written)
    await until(lambda: len(served.wire.written) > before + 3)
    assert served.link.ended is None
