"""The collector: each probe when it is due, and a probe that fails harms nobody."""

from __future__ import annotations

import math

from peerinfer.telemetry.collector import RETRY_S, Collector, default_probes
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


def test_readings_come_together() -> None:
    memory = FakeProbe("memory", 1.0, Reading(memory_bytes=8, memory_free_bytes=4))
    gpu = FakeProbe("gpu", 1.0, Reading(devices=(DeviceFacts("cuda", "A GPU", 2, 1),)))
    power = FakeProbe("power", 1.0, Reading(on_battery=False))
    hardware = Collector([memory, gpu, power]).hardware(0.0)
    assert (hardware.memory_bytes, hardware.memory_free_bytes, hardware.on_battery) == (8, 4, False)
    assert [device.name for device in hardware.devices] == ["A GPU"]
    assert hardware.troubles == ()


def test_each_probe_is_read_as_often_as_it_needs() -> None:
    quick, slow, once = (FakeProbe(str(every), every, Reading()) for every in (1.0, 10.0, math.inf))
    collector = Collector([quick, slow, once])
    for second in range(11):
        collector.hardware(float(second))
    assert (quick.reads, slow.reads, once.reads) == (11, 2, 1)


def test_a_failing_probe_degrades_with_its_reason_and_recovers() -> None:
    broken = FakeProbe("gpu", 1.0, OSError("driver not loaded"))
    memory = FakeProbe("memory", 1.0, Reading(memory_bytes=8, memory_free_bytes=4))
    collector = Collector([broken, memory])
    hardware = collector.hardware(0.0)
    assert hardware.memory_bytes == 8
    assert hardware.troubles == (("gpu", "OSError: driver not loaded"),)
    broken.reading = Reading(devices=(DeviceFacts("cuda", "A GPU"),))
    assert collector.hardware(1.0).devices == (), "a broken driver is not asked every second"
    recovered = collector.hardware(RETRY_S)
    assert (len(recovered.devices), recovered.troubles) == (1, ())


def test_this_machine_tells_its_memory_and_processor() -> None:
    hardware = Collector(default_probes()).hardware(0.0)
    assert 0 < hardware.memory_free_bytes <= hardware.memory_bytes
    (processor,) = [device for device in hardware.devices if device.kind == "cpu"]
    assert processor.cores >= 1
    assert processor.name
