"""The instruments of one node: what it measures of its hardware, its engine and its links, for its snapshot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

from peerinfer.clock import monotonic
from peerinfer.engine.host import can_offload
from peerinfer.errors import PeerinferError
from peerinfer.gossip.snapshot import HeldStage, LinkFigure
from peerinfer.net.switchboard import Switchboard
from peerinfer.node.policy import PolicyDesk
from peerinfer.node.portrait import ENGINES, Figures
from peerinfer.node.speeds import Speeds
from peerinfer.telemetry.collector import FIRST_S, Collector, default_probes
from peerinfer.telemetry.facts import DeviceFacts
from peerinfer.telemetry.link_service import LinkService

LOOK_AFTER_S: Final = 3.0
"""How often it is looked for GPUs, until some are found: a driver may take its time, or come later."""
PREFERRED: Final = ("cuda", "rocm", "metal", "intel")
"""Kinds of accelerators, the one that is filled first first: a build of the engine has one kind only."""

Duty = Callable[[], Coroutine[Any, Any, None]]

log = logging.getLogger(__name__)


class Instruments:
    """Collector, meter and links of one session. `is_busy` says whether requests run here; it is set when they can."""

    def __init__(self, home: Path, threads: int, switchboard: Switchboard) -> None:
        self.is_busy: Callable[[], bool] = lambda: False
        self.collector = Collector(default_probes(), monotonic)
        self.speeds = Speeds(home, ENGINES[0], threads, self._devices, self._accelerators)
        self._links = LinkService(switchboard, self._has_work, monotonic)
        self._offloads = False

    async def prepare(self) -> None:
        """What can be known at once is known after this."""
        await self.collector.refresh(FIRST_S)

    def duties(self, announce: Callable[[], None]) -> tuple[Duty, ...]:
        """What goes on until the session ends; `announce` is called when there is news."""
        return (partial(self.collector.run, announce), self._links.run, partial(self._look, announce))

    def figures(self, held: Callable[[], tuple[HeldStage, ...]], policy: PolicyDesk) -> Figures:
        """What the portrait asks for."""
        return Figures(
            held,
            links=self._told_links,
            speeds=self.speeds.told,
            accelerators=self._accelerators,
            policy=policy.owner,
            allowed=policy.allowed,
        )

    async def _look(self, announce: Callable[[], None]) -> None:
        """Asks the engine, once there are accelerators, whether it computes with them."""
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            if any(device.kind in PREFERRED for device in self._devices()):
                break
        try:
            self._offloads = await can_offload()
        except PeerinferError as error:
            log.warning("The engine could not be asked what it computes with: %s", error)
        if self._offloads:
            announce()
        await asyncio.Event().wait()  # a duty that ends is taken up again

    def _has_work(self) -> bool:
        return self.is_busy()

    def _devices(self) -> tuple[DeviceFacts, ...]:
        return self.collector.hardware.devices

    def _accelerators(self) -> tuple[str, ...]:
        here = {device.kind for device in self._devices()}
        return tuple(kind for kind in PREFERRED if kind in here) if self._offloads else ()

    def _told_links(self) -> tuple[LinkFigure, ...]:
        return tuple(
            LinkFigure(one.peer, one.rtt_us, one.bandwidth_bytes_per_s, one.is_stale) for one in self._links.told()
        )
