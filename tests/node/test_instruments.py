"""The instruments of a node: GPUs that show late are used all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peerinfer.clock import monotonic
from peerinfer.gossip.snapshot import HeldStage
from peerinfer.net.switchboard import Switchboard
from peerinfer.node.instruments import Instruments
from peerinfer.node.policy import PolicyDesk
from peerinfer.pipeline.metering import StageShape
from peerinfer.telemetry.collector import Collector
from peerinfer.telemetry.facts import DeviceFacts, Reading


class LateProbe:
    """A driver that takes its time."""

    name = "gpu"
    every_s = 0.0

    def __init__(self) -> None:
        self.devices: tuple[DeviceFacts, ...] = ()

    def read(self) -> Reading:
        return Reading(devices=self.devices)


def held() -> tuple[HeldStage, ...]:
    return ()


async def test_the_engine_is_asked_when_the_first_gpu_shows_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, news, answer = 0, asyncio.Event(), asyncio.Event()

    async def can_offload() -> bool:
        nonlocal asked
        asked += 1
        await answer.wait()
        return True

    monkeypatch.setattr("peerinfer.node.instruments.can_offload", can_offload)
    monkeypatch.setattr("peerinfer.node.instruments.LOOK_AFTER_S", 0.001)
    probe = LateProbe()
    instruments = Instruments(tmp_path, 1, Switchboard("a"), PolicyDesk(tmp_path))
    instruments.collector = Collector([probe], monotonic)
    figures = instruments.figures(held)
    await instruments.prepare()
    looking = asyncio.create_task(instruments._look(news.set))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert (asked, figures.accelerators()) == (0, ())
    shape = StageShape("llama", "Q4_1", 4, 10**6, 0)
    assert instruments.speeds.wants(shape)
    probe.devices = (DeviceFacts("cuda", "A GPU", 24 * 10**9),)
    await instruments.prepare()
    assert not instruments.speeds.wants(shape)  # it may run on the GPU or not: whose figure would that be?
    answer.set()
    await asyncio.wait_for(news.wait(), 10)
    assert (asked, figures.accelerators(), instruments.speeds.wants(shape)) == (1, ("cuda",), True)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
