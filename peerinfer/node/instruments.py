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
from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.errors import PeerinferError
from peerinfer.gossip.snapshot import HeldStage, LinkFigure
from peerinfer.net.switchboard import Switchboard
from peerinfer.node.engines import EngineDesk
from peerinfer.node.policy import PolicyDesk
from peerinfer.node.portrait import Figures
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

    def __init__(self, home: Path, threads: int, switchboard: Switchboard, policy: PolicyDesk) -> None:
        self.is_busy: Callable[[], bool] = lambda: False
        self.collector = Collector(default_probes(), monotonic)
        self.engines = EngineDesk(policy)
        self._policy = policy
        self.speeds = Speeds(home, threads, self._devices, self._accelerators)
        self._links = LinkService(switchboard, self._has_work, monotonic)
        self._offloads: bool | None = None

    async def prepare(self) -> None:
        """What can be known at once is known after this."""
        await asyncio.gather(self.collector.refresh(FIRST_S), self.engines.prepare())

    def duties(self, announce: Callable[[], None]) -> tuple[Duty, ...]:
        """What goes on until the session ends; `announce` is called when there is news."""
        looks = (self.collector.run, self._look, self.engines.run)
        return (self._links.run, *(partial(look, announce) for look in looks))

    def figures(self, held: Callable[[], tuple[HeldStage, ...]]) -> Figures:
        """What the portrait asks for."""
        return Figures(
            held,
            links=self._told_links,
            speeds=self.speeds.told,
            accelerators=self._all_accelerators,
            policy=self._policy.owner,
            engines=lambda: self.engines.engines,
            unable=self.engines.unable,
            troubles=self.engines.troubles,
        )

    async def _look(self, announce: Callable[[], None]) -> None:
        """Asks the engine, once there are accelerators, whether it computes with them."""
        while True:
            if self._gpus():
                break
            await asyncio.sleep(LOOK_AFTER_S)
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

    def _gpus(self) -> tuple[str, ...]:
        """Kinds of GPUs here, whether an engine computes with them or not."""
        here = {device.kind for device in self._devices()}
        return tuple(kind for kind in PREFERRED if kind in here)

    def _accelerators(self, engine: str) -> tuple[str, ...] | None:
        """Kinds of devices here that an engine computes with, besides the processor; None until it was asked."""
        if engine == MLX:
            return ("metal",) if "metal" in self._gpus() and self.engines.computes_on_metal else ()
        if self._offloads is None and self._gpus():
            return None
        return self._gpus() if self._offloads else ()

    def _all_accelerators(self) -> tuple[str, ...]:
        told = {kind for engine in (LLAMA, MLX) for kind in self._accelerators(engine) or ()}
        return tuple(kind for kind in PREFERRED if kind in told)

    def _told_links(self) -> tuple[LinkFigure, ...]:
        return tuple(
            LinkFigure(one.peer, one.rtt_us, one.bandwidth_bytes_per_s, one.is_stale) for one in self._links.told()
        )
