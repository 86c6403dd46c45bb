"""The collector: each probe when it is due, and a probe that fails or hangs harms nobody."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from peerinfer.clock import monotonic
from peerinfer.telemetry.collector import FIRST_S, RETRY_S, Collector, default_probes
from peerinfer.telemetry.facts import DeviceFacts, Reading


class FakeProbe:
    def __init__(self, name: str, every_s: float, reading: Reading | Exception) -> None:
        self.name = name
        self.every_s = every_s
        self.reading = reading
        self.reads = 0

    def read(self) -> Reading:
        self.reads += 1
        if isinstance(self.reading, Exception):
            raise self.reading
        return self.reading


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_readings_come_together() -> None:
    memory = FakeProbe("memory", 1.0, Reading(memory_bytes=8, memory_free_bytes=4))
    gpu = FakeProbe("gpu", 1.0, Reading(devices=(DeviceFacts("cuda", "A GPU", 2, 1),)))
    power = FakeProbe("power", 1.0, Reading(on_battery=False, battery_percent=80.0))
    collector = Collector([memory, gpu, power], Clock())
    assert await collector.refresh()
    hardware = collector.hardware
    assert (hardware.memory_bytes, hardware.memory_free_bytes, hardware.on_battery) == (8, 4, False)
    assert [device.name for device in hardware.devices] == ["A GPU"]
    assert hardware.troubles == ()


async def test_each_probe_is_read_as_often_as_it_needs_or_as_it_is_told() -> None:
    probes = [FakeProbe(str(every), every, Reading()) for every in (1.0, 10.0, math.inf)]
    clock = Clock()
    collector = Collector([*probes, told := FakeProbe("told", 1.0, Reading())], clock, every_s={"told": 5.0})
    for second in range(11):
        clock.now = float(second)
        await collector.refresh()
    assert [probe.reads for probe in (*probes, told)] == [11, 2, 1, 3]


async def test_a_failing_probe_degrades_with_its_reason_and_recovers() -> None:
    broken = FakeProbe("gpu", 1.0, OSError("driver not loaded"))
    memory = FakeProbe("memory", 1.0, Reading(memory_bytes=8, memory_free_bytes=4))
    clock = Clock()
    collector = Collector([broken, memory], clock)
    await collector.refresh()
    assert collector.hardware.memory_bytes == 8
    assert collector.hardware.troubles == (("gpu", "OSError: driver not loaded"),)
    broken.reading = Reading(devices=(DeviceFacts("cuda", "A GPU"),))
    clock.now = 1.0
    await collector.refresh()
    assert collector.hardware.devices == (), "a broken driver is not asked every second"
    clock.now = RETRY_S
    await collector.refresh()
    assert (len(collector.hardware.devices), collector.hardware.troubles) == (1, ())


async def test_what_a_probe_lacks_is_told_and_asked_again_soon() -> None:
    gpu = FakeProbe("gpu", 2.0, Reading(devices=(DeviceFacts("cuda", "A GPU"),), lacks="GPU 1 does not answer."))
    clock = Clock()
    collector = Collector([gpu], clock)
    await collector.refresh()
    assert collector.hardware.troubles == (("gpu", "GPU 1 does not answer."),)
    assert len(collector.hardware.devices) == 1
    clock.now = 2.0
    await collector.refresh()
    assert gpu.reads == 2


class HangingProbe:
    """Answers once, then hangs until it is let go."""

    name = "hangs"
    every_s = 1.0

    def __init__(self) -> None:
        self.reads = 0
        self.let_go = threading.Event()

    def read(self) -> Reading:
        self.reads += 1
        if self.reads == 2:
            self.let_go.wait(30)
        return Reading(memory_bytes=self.reads)


async def test_a_hanging_probe_keeps_what_it_told_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerinfer.telemetry.collector.LIMIT_S", 0.05)
    hanging, other = HangingProbe(), FakeProbe("power", 1.0, Reading(on_battery=True))
    clock = Clock()
    collector = Collector([hanging, other], clock)
    await collector.refresh(0.05)
    for second in (1.0, 2.0, 3.0):
        clock.now = second
        await collector.refresh(0.05)
    assert hanging.reads == 2, "no second thread is sent after one that hangs"
    assert other.reads == 4
    clock.now = 4.0
    await asyncio.wait_for(collector.refresh(60.0), 10)  # one that hangs is waited for once
    assert other.reads == 5
    assert collector.hardware.memory_bytes == 1
    assert "has not answered" in collector.hardware.troubles[0][1]
    hanging.let_go.set()
    await asyncio.wait_for(_settles(collector), 10)
    assert collector.hardware.troubles == ()
    assert collector.hardware.memory_bytes >= 2


async def test_a_machine_that_has_no_thread_to_spare_tells_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, memory = Clock(), FakeProbe("memory", 1.0, Reading(memory_bytes=8, memory_free_bytes=4))
    collector = Collector([memory], clock)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        await collector.refresh()
    assert collector.hardware.troubles == (("memory", "It could not be asked: can't start new thread."),)
    clock.now = RETRY_S
    await collector.refresh()
    assert (collector.hardware.memory_bytes, collector.hardware.troubles) == (8, ())


async def test_what_stays_as_it_is_is_no_news_even_where_the_memory_is_not_known() -> None:
    clock, broken = Clock(), FakeProbe("memory", 1.0, OSError("no"))
    collector = Collector([broken], clock)
    assert await collector.refresh()
    clock.now = RETRY_S
    assert not await collector.refresh()


async def _settles(collector: Collector) -> None:
    while collector.hardware.troubles:
        await collector.refresh(0.05)
        await asyncio.sleep(0)


async def test_this_machine_tells_its_memory_and_processor() -> None:
    collector = Collector(default_probes(), monotonic)
    await collector.refresh(10 * FIRST_S)
    hardware = collector.hardware
    assert 0 < hardware.memory_free_bytes <= hardware.memory_bytes
    (processor,) = [device for device in hardware.devices if device.kind == "cpu"]
    assert processor.cores >= 1
