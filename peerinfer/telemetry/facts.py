"""What probes tell of this machine, and the one shape that all of them have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The processor, or a GPU. What a machine does not say is None or empty."""

    kind: str
    """`cpu`, `cuda`, `metal`, `rocm` or `intel`."""
    name: str
    memory_bytes: int = 0
    """Its own memory; 0 if it uses the machine's."""
    memory_free_bytes: int = 0
    cores: int = 0
    """Cores that may be used by this process; 0 for a GPU."""
    utilisation: float | None = None
    """Share of its time that it was at work, 0 … 1."""
    temperature_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    throttled: str = ""
    """Why it runs slower than it could, in words."""
    capability: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one probe knows; what it does not know is None or empty."""

    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    swap_used_bytes: int | None = None
    devices: tuple[DeviceFacts, ...] = ()
    on_battery: bool | None = None
    battery_percent: float | None = None
    lid_closed: bool | None = None
    user_active: bool | None = None
    """Whether somebody used keyboard or mouse in the last minutes."""
    thermal: str = ""
    """Pressure by heat: `nominal`, `fair`, `serious` or `critical`."""
    lacks: str = ""
    """What this probe could not tell although its source is there, as a sentence."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """This machine as all probes together see it."""

    memory_bytes: int = 0
    memory_free_bytes: int = 0
    devices: tuple[DeviceFacts, ...] = ()
    on_battery: bool | None = None
    """None, as below, where the machine does not say."""
    troubles: tuple[tuple[str, str], ...] = ()
    """(probe, reason) for each probe that cannot tell what it should."""
    swap_used_bytes: int | None = None
    battery_percent: float | None = None
    lid_closed: bool | None = None
    user_active: bool | None = None
    thermal: str = ""


class Probe(Protocol):
    """One source of facts. `read` runs in a thread of its own, may take its time, and may raise anything."""

    @property
    def name(self) -> str:
        """What it probes, in a word."""
        ...

    @property
    def every_s(self) -> float:
        """Seconds for which a reading is good; infinity for what never changes."""
        ...

    def read(self) -> Reading:
        """The facts as they are now."""
        ...
