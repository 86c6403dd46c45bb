"""All probes together: each read as often as it needs in a thread of its own, each free to fail, or to hang, alone."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from peerinfer.clock import Clock
from peerinfer.telemetry.changes import settled
from peerinfer.telemetry.facts import Hardware, Probe, Reading
from peerinfer.telemetry.probes.amd import AmdProbe
from peerinfer.telemetry.probes.apple import AppleProbe
from peerinfer.telemetry.probes.battery import BatteryProbe
from peerinfer.telemetry.probes.heat import HeatProbe
from peerinfer.telemetry.probes.intel import IntelProbe
from peerinfer.telemetry.probes.lid import LidProbe
from peerinfer.telemetry.probes.memory import MemoryProbe
from peerinfer.telemetry.probes.nvidia import NvidiaProbe
from peerinfer.telemetry.probes.processor import ProcessorProbe
from peerinfer.telemetry.probes.user import UserProbe

T = TypeVar("T")

RETRY_S: Final = 60.0
"""A probe that failed is asked again this much later: a driver may come, a log line per second may not."""
LIMIT_S: Final = 2.0
"""A probe that has not answered by then is left alone until it does: its thread may hang in a driver for good."""
FIRST_S: Final = 1.0
"""What is known after this time stands in the first snapshot; slower probes follow."""
TICK_S: Final = 1.0
REASON_MAX: Final = 200
"""Characters of a reason: drivers can be talkative."""


def default_probes() -> tuple[Probe, ...]:
    """Every probe there is; each knows by itself where it has nothing to say."""
    return (
        MemoryProbe(),
        ProcessorProbe(),
        NvidiaProbe(),
        AppleProbe(),
        AmdProbe(),
        IntelProbe(),
        BatteryProbe(),
        LidProbe(),
        UserProbe(),
        HeatProbe(),
    )


@dataclass(slots=True, eq=False)
class _Source:
    probe: Probe
    reading: Reading = field(default_factory=Reading)
    trouble: str = ""
    next_at: float = -math.inf
    answer: asyncio.Future[None] | None = None
    """Of the thread that reads now."""
    hangs: bool = False
    """Whether that was waited for in vain: nobody waits for it again."""


class Collector:
    """Keeps what the probes said last. A failed probe tells nothing; a hung one what it told before, with the reason.

    `every_s` gives other intervals by the names of probes.
    """

    def __init__(self, probes: Sequence[Probe], clock: Clock, every_s: dict[str, float] | None = None) -> None:
        self._sources = [_Source(probe) for probe in probes]
        self._clock = clock
        self._every_s = every_s or {}
        self._told = Hardware()

    @property
    def hardware(self) -> Hardware:
        """This machine as it was told last: figures that moved by little are as before."""
        return self._told

    async def run(self, announce: Callable[[], None]) -> None:
        """Reads until cancelled, and calls `announce` when there is news."""
        while True:
            if await self.refresh():
                announce()
            await asyncio.sleep(TICK_S)

    async def refresh(self, limit_s: float = LIMIT_S) -> bool:
        """Reads whatever is due, for `limit_s` at most; whether there is news."""
        now = self._clock()
        for source in self._sources:
            if now >= source.next_at and source.answer is None:
                self._begin(source)
        waited = [source.answer for source in self._sources if source.answer is not None and not source.hangs]
        if waited:
            await asyncio.wait(waited, timeout=limit_s)
        for source in self._sources:
            if source.answer is not None and limit_s >= LIMIT_S:
                source.hangs = True
                source.trouble = f"It has not answered for {LIMIT_S:g} s; what it told before stands."
        before, self._told = self._told, settled(self._told, self._composed())
        return self._told is not before

    def _begin(self, source: _Source) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        source.answer = answer

        def take(reading: Reading, trouble: str) -> None:
            source.reading, source.trouble, source.answer, source.hangs = reading, trouble, None, False
            every_s = self._every_s.get(source.probe.name, source.probe.every_s)
            source.next_at = self._clock() + (RETRY_S if trouble and not reading.lacks else every_s)
            if not answer.done():
                answer.set_result(None)

        def work() -> None:
            reading, trouble = _read(source.probe)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody asks any more
                loop.call_soon_threadsafe(take, reading, trouble)

        # a daemon thread: one that hangs in a driver must not keep the process from ending
        thread = threading.Thread(target=work, name=f"probe {source.probe.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a machine at its limit of threads
            take(source.reading, f"It could not be asked: {error}.")

    def _composed(self) -> Hardware:
        readings = [source.reading for source in self._sources]
        return Hardware(
            memory_bytes=_first(reading.memory_bytes for reading in readings) or 0,
            memory_free_bytes=_first(reading.memory_free_bytes for reading in readings) or 0,
            devices=tuple(device for reading in readings for device in reading.devices),
            on_battery=_first(reading.on_battery for reading in readings),
            troubles=tuple((source.probe.name, source.trouble) for source in self._sources if source.trouble),
            swap_used_bytes=_first(reading.swap_used_bytes for reading in readings),
            battery_percent=_first(reading.battery_percent for reading in readings),
            lid_closed=_first(reading.lid_closed for reading in readings),
            user_active=_first(reading.user_active for reading in readings),
            thermal=next((reading.thermal for reading in readings if reading.thermal), ""),
        )


def _read(probe: Probe) -> tuple[Reading, str]:
    """A reading, and why it is not what it should be."""
    try:
        reading = probe.read()
    except Exception as error:  # drivers raise what they like; a machine without a probe still works
        return Reading(), f"{type(error).__name__}: {error}"[:REASON_MAX]
    return reading, reading.lacks[:REASON_MAX]


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)
