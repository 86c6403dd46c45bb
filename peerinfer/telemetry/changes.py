"""What is news: a reading that moved beyond its threshold. Everything else is told as it was before. Pure.

A threshold stands around the value that was told last, so a figure that trembles at its edge is told once, not at each
crossing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from peerinfer.telemetry.facts import DeviceFacts, Hardware

MEMORY_SHARE: Final = 0.02
"""Of the whole memory."""
MEMORY_STEP_BYTES: Final = 32 << 20
"""At least so much: allocators breathe."""
UTILISATION_STEP: Final = 0.15
TEMPERATURE_STEP_C: Final = 4.0
POWER_SHARE: Final = 0.15
POWER_STEP_W: Final = 5.0
CLOCK_SHARE: Final = 0.15
BATTERY_STEP: Final = 1.0
"""Percent."""
SWAP_STEP_BYTES: Final = 128 << 20


def settled(before: Hardware, now: Hardware) -> Hardware:
    """`now`, with every figure that moved by little as it was `before`; the same object if nothing is news."""
    if not before.memory_bytes:  # nothing was told yet
        return before if now == before else now
    total = max(now.memory_bytes, before.memory_bytes)
    steady = replace(
        now,
        memory_free_bytes=_whole(before.memory_free_bytes, now.memory_free_bytes, _memory_step(total)),
        swap_used_bytes=_maybe_whole(before.swap_used_bytes, now.swap_used_bytes, SWAP_STEP_BYTES),
        battery_percent=_figure(before.battery_percent, now.battery_percent, BATTERY_STEP),
        devices=_devices(before.devices, now.devices),
    )
    return before if steady == before else steady


def _devices(before: tuple[DeviceFacts, ...], now: tuple[DeviceFacts, ...]) -> tuple[DeviceFacts, ...]:
    if [(one.kind, one.name) for one in before] != [(one.kind, one.name) for one in now]:
        return now
    return tuple(_device(old, new) for old, new in zip(before, now, strict=True))


def _device(before: DeviceFacts, now: DeviceFacts) -> DeviceFacts:
    watts = max(POWER_STEP_W, POWER_SHARE * (before.power_w or 0.0))
    return replace(
        now,
        memory_free_bytes=_whole(before.memory_free_bytes, now.memory_free_bytes, _memory_step(now.memory_bytes)),
        utilisation=_figure(before.utilisation, now.utilisation, UTILISATION_STEP),
        temperature_c=_figure(before.temperature_c, now.temperature_c, TEMPERATURE_STEP_C),
        power_w=_figure(before.power_w, now.power_w, watts),
        clock_mhz=_figure(before.clock_mhz, now.clock_mhz, CLOCK_SHARE * (before.clock_mhz or 0.0)),
    )


def _memory_step(total_bytes: int) -> int:
    return max(MEMORY_STEP_BYTES, int(MEMORY_SHARE * total_bytes))


def _whole(before: int, now: int, step: int) -> int:
    return now if abs(now - before) >= step else before


def _maybe_whole(before: int | None, now: int | None, step: int) -> int | None:
    return now if before is None or now is None else _whole(before, now, step)


def _figure(before: float | None, now: float | None, step: float) -> float | None:
    return now if before is None or now is None or abs(now - before) >= step else before
