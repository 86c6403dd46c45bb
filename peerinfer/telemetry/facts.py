"""What probes tell of this machine, and the one shape that all of them have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The processor, or a GPU with its own memory."""

    kind: str
    """`cpu` or `cuda`."""
    name: str
    memory_bytes: int = 0
    """Its own memory; 0 if it uses the machine's."""
    memory_free_bytes: int = 0
    cores: int = 0
    """Cores that may be used by this process; 0 for a GPU."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one probe knows; what it does not know is None or empty."""

    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    devices: tuple[DeviceFacts, ...] = ()
    on_battery: bool | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """This machine as all probes together see it."""

    memory_bytes: int
    memory_free_bytes: int
    devices: tuple[DeviceFacts, ...]
    on_battery: bool | None
    """None where the machine does not say."""
    troubles: tuple[tuple[str, str], ...]
    """(probe, reason) for each probe that failed at its last try."""


class Probe(Protocol):
    """One source of facts. `read` may block for milliseconds and may raise anything: the collector degrades."""

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
