"""Which engines run layers on this machine: llama.cpp always, MLX where it works and is wanted."""

from __future__ import annotations

import asyncio
import logging
import platform
import sys
from collections.abc import Callable
from typing import Final

from peerinfer.engine.host import ask_mlx
from peerinfer.engine.kinds import LLAMA, MLX
from peerinfer.engine.mlx_ability import MlxAbility
from peerinfer.errors import PeerinferError
from peerinfer.node.policy import PolicyDesk

FIRST_S: Final = 10.0
"""How long a start waits for MLX where it is wanted: imports from a cold disk."""
IS_APPLE: Final = sys.platform == "darwin" and platform.machine() == "arm64"
"""Whether MLX is the default here: it computes on the GPU."""

log = logging.getLogger(__name__)


class EngineDesk:
    """Asks MLX once what it can do, when it is first wanted: by the machine's kind, or by its owner."""

    def __init__(self, policy: PolicyDesk, *, is_apple: bool = IS_APPLE) -> None:
        self._policy = policy
        self._is_apple = is_apple
        self._mlx: MlxAbility | None = None
        self._wake = asyncio.Event()

    @property
    def engines(self) -> tuple[str, ...]:
        """Those that run layers here, the preferred one first: in the owner's order, if he named some."""
        has_mlx = self._wants_mlx() and self._mlx is not None and not self._mlx.trouble
        return self._policy.allowed((MLX, LLAMA) if has_mlx else (LLAMA,))

    @property
    def computes_on_metal(self) -> bool:
        """Whether MLX is here and computes on a GPU."""
        return self._mlx is not None and not self._mlx.trouble and self._mlx.metal

    def unable(self) -> tuple[tuple[str, str], ...]:
        """(engine, architecture) of what an engine cannot run as it is installed here."""
        return tuple((MLX, name) for name in self._mlx.unable) if self._mlx is not None else ()

    def troubles(self) -> tuple[tuple[str, str], ...]:
        """(engine, sentence) of those that are wanted and do not run."""
        trouble = self._mlx.trouble if self._mlx is not None and self._wants_mlx() else ""
        return ((MLX, trouble),) if trouble else ()

    async def prepare(self) -> None:
        """Asks at once if MLX is wanted, but does not hold up a start for long."""
        try:
            async with asyncio.timeout(FIRST_S):
                await self._ask()
        except TimeoutError:
            log.warning("MLX takes its time to start; it is asked again.")

    def look(self) -> None:
        """What is wanted may have changed."""
        self._wake.set()

    async def run(self, announce: Callable[[], None]) -> None:
        """Asks when MLX comes to be wanted; `announce` is called when there is news."""
        while True:
            if await self._ask():
                announce()
            await self._wake.wait()
            self._wake.clear()

    def _wants_mlx(self) -> bool:
        named = self._policy.current.engines
        return MLX in named if named else self._is_apple

    async def _ask(self) -> bool:
        if self._mlx is not None or not self._wants_mlx():
            return False
        try:
            self._mlx = await ask_mlx()
        except PeerinferError as error:
            self._mlx = MlxAbility(f"MLX ended its process at its start ({error}) llama.cpp runs all layers.")
        if self._mlx.trouble:
            log.warning("%s", self._mlx.trouble)
        return True
